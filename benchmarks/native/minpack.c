/* A batch of fits by MINPACK's lmder (cminpack), lane after lane. */

#include "models.h"

#include <cminpack.h>
#include <stdlib.h>
#include <string.h>

static const model_fn MODELS[] = {peak, decay, sinusoid, spot, peaks};

typedef struct {
    model_fn model;
    const double *x, *y;
} lane;

static int evaluate_lane(void *data, int m, int n, const double *p, double *fvec, double *fjac,
                         int ldfjac, int iflag) {
    const lane *l = (const lane *)data;
    (void)n;
    (void)ldfjac;
    if (iflag == 1) l->model(m, l->x, l->y, p, fvec, NULL);
    if (iflag == 2) l->model(m, l->x, l->y, p, NULL, fjac);
    return 0;
}

/* Residuals and Jacobian at one point, to check the derivatives. */
void evaluate(int kind, int m, const double *x, const double *y, const double *p, double *r,
              double *jac) {
    MODELS[kind](m, x, y, p, r, jac);
}

/* y (batch, m), p0 and params (batch, n); cost is half the sum of squares. Returns 0, or -1
   where memory is missing. */
int fit(int kind, ptrdiff_t batch, int m, int n, const double *x, const double *y,
        const double *p0, double *params, double *cost, int *nfev, int *status) {
    const double tolerance = 1.49012e-8;
    double *work = malloc(sizeof(double) * ((size_t)m * (n + 2) + 5 * (size_t)n));
    int *ipvt = malloc(sizeof(int) * n);
    if (!work || !ipvt) {
        free(work);
        free(ipvt);
        return -1;
    }
    double *fvec = work, *wa4 = fvec + m, *fjac = wa4 + m, *diag = fjac + (size_t)m * n;
    double *qtf = diag + n, *wa1 = qtf + n, *wa2 = wa1 + n, *wa3 = wa2 + n;
    memcpy(params, p0, sizeof(double) * batch * n);
    for (ptrdiff_t b = 0; b < batch; b++) {
        lane l = {MODELS[kind], x, y + b * m};
        int njev;
        status[b] = lmder(evaluate_lane, &l, m, n, params + b * n, fvec, fjac, m, tolerance,
                          tolerance, 0.0, 100 * (n + 1), diag, 1, 100.0, 0, &nfev[b], &njev, ipvt,
                          qtf, wa1, wa2, wa3, wa4);
        double sum = 0;
        for (int i = 0; i < m; i++) sum += fvec[i] * fvec[i];
        cost[b] = sum / 2;
    }
    free(work);
    free(ipvt);
    return 0;
}
