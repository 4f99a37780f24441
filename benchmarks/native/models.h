/* The workloads' residuals (model minus data) and Jacobians (column-major m x n).
   r or jac may be NULL; what they share is computed once. */

#ifndef MODELS_H
#define MODELS_H

#include <math.h>
#include <stddef.h>

#define ARGUMENTS                                                                      \
    int m, const double *__restrict__ x, const double *__restrict__ y, const double *p, \
        double *__restrict__ r, double *__restrict__ jac

typedef void (*model_fn)(int, const double *, const double *, const double *, double *, double *);

/* amplitude, centre, width, offset */
static void peak(ARGUMENTS) {
    const double a = p[0], c = p[1], scale = 1 / p[2], o = p[3];
    for (int i = 0; i < m; i++) {
        const double z = (x[i] - c) * scale, e = exp(-0.5 * z * z);
        if (r) r[i] = a * e + o - y[i];
        if (jac) {
            const double d = a * e * z * scale;
            jac[i] = e;
            jac[m + i] = d;
            jac[2 * m + i] = d * z;
            jac[3 * m + i] = 1;
        }
    }
}

/* amplitude, rate, offset */
static void decay(ARGUMENTS) {
    const double a = p[0], k = p[1], o = p[2];
    for (int i = 0; i < m; i++) {
        const double e = exp(-k * x[i]);
        if (r) r[i] = a * e + o - y[i];
        if (jac) {
            jac[i] = e;
            jac[m + i] = -a * x[i] * e;
            jac[2 * m + i] = 1;
        }
    }
}

/* amplitude, angular frequency, phase */
static void sinusoid(ARGUMENTS) {
    const double a = p[0], w = p[1], phase = p[2];
    for (int i = 0; i < m; i++) {
        const double angle = w * x[i] + phase, s = sin(angle);
        if (r) r[i] = a * s - y[i];
        if (jac) {
            const double d = a * cos(angle);
            jac[i] = s;
            jac[m + i] = d * x[i];
            jac[2 * m + i] = d;
        }
    }
}

/* amplitude, x0, y0, sigma, offset; x holds m abscissae, then m ordinates */
static void spot(ARGUMENTS) {
    const double a = p[0], x0 = p[1], y0 = p[2], scale = 1 / p[3], o = p[4];
    for (int i = 0; i < m; i++) {
        const double u = (x[i] - x0) * scale, v = (x[m + i] - y0) * scale;
        const double q = u * u + v * v, e = exp(-0.5 * q);
        if (r) r[i] = a * e + o - y[i];
        if (jac) {
            const double d = a * e * scale;
            jac[i] = e;
            jac[m + i] = d * u;
            jac[2 * m + i] = d * v;
            jac[3 * m + i] = d * q;
            jac[4 * m + i] = 1;
        }
    }
}

/* four times amplitude, centre, width; then intercept, slope */
static void peaks(ARGUMENTS) {
    double scale[4];
    for (int k = 0; k < 4; k++) scale[k] = 1 / p[3 * k + 2];
    for (int i = 0; i < m; i++) {
        double total = p[12] + p[13] * x[i];
        for (int k = 0; k < 4; k++) {
            const double z = (x[i] - p[3 * k + 1]) * scale[k], e = exp(-0.5 * z * z);
            const double b = p[3 * k] * e;
            total += b;
            if (jac) {
                const double d = b * z * scale[k];
                jac[3 * k * m + i] = e;
                jac[(3 * k + 1) * m + i] = d;
                jac[(3 * k + 2) * m + i] = d * z;
            }
        }
        if (r) r[i] = total - y[i];
        if (jac) {
            jac[12 * m + i] = 1;
            jac[13 * m + i] = x[i];
        }
    }
}

#endif
