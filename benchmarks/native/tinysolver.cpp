// A batch of fits by Ceres' TinySolver, lane after lane.

#include "models.h"

#include <ceres/tiny_solver.h>

namespace {

template <model_fn MODEL, int N>
struct Cost {
    using Scalar = double;
    enum { NUM_RESIDUALS = Eigen::Dynamic, NUM_PARAMETERS = N };
    int m;
    const double *x, *y;
    mutable int evaluations;

    int NumResiduals() const { return m; }

    bool operator()(const double *p, double *r, double *jac) const {
        ++evaluations;
        MODEL(m, x, y, p, r, jac);
        return true;
    }
};

// TinySolver's function tolerance is absolute: 1e-10 of the data's sum of squares about their
// mean is about 1e-8 of what errors of some percent leave.
double function_tolerance(int m, const double *y) {
    double mean = 0, sum = 0;
    for (int i = 0; i < m; i++) mean += y[i] / m;
    for (int i = 0; i < m; i++) sum += (y[i] - mean) * (y[i] - mean);
    return 1e-10 * sum;
}

// The solver is reused, so that its memory is allocated once.
template <model_fn MODEL, int N>
void fit_lanes(ptrdiff_t batch, int m, const double *x, const double *y, const double *p0,
               double *params, double *cost, int *nfev, int *status) {
    using Problem = Cost<MODEL, N>;
    ceres::TinySolver<Problem> solver;
    solver.options.max_num_iterations = 100 * (N + 1);
    solver.options.gradient_tolerance = 0;
    solver.options.parameter_tolerance = 1.49012e-8;
    for (ptrdiff_t b = 0; b < batch; b++) {
        const Problem problem{m, x, y + b * m, 0};
        solver.options.function_tolerance = function_tolerance(m, problem.y);
        typename ceres::TinySolver<Problem>::Parameters p;
        for (int k = 0; k < N; k++) p[k] = p0[b * N + k];
        solver.Solve(problem, &p);
        for (int k = 0; k < N; k++) params[b * N + k] = p[k];
        cost[b] = solver.summary.final_cost;
        nfev[b] = problem.evaluations;
        status[b] = static_cast<int>(solver.summary.status);
    }
}

}  // namespace

// y (batch, m), p0 and params (batch, n); cost is half the sum of squares.  Returns 0, or -1
// where n is not the model's.
extern "C" int fit(int kind, ptrdiff_t batch, int m, int n, const double *x, const double *y,
                   const double *p0, double *params, double *cost, int *nfev, int *status) {
    static const int SIZES[] = {4, 3, 3, 5, 14};
    static const decltype(&fit_lanes<peak, 4>) FITS[] = {
        fit_lanes<peak, 4>, fit_lanes<decay, 3>,  fit_lanes<sinusoid, 3>,
        fit_lanes<spot, 5>, fit_lanes<peaks, 14>,
    };
    if (n != SIZES[kind]) return -1;
    FITS[kind](batch, m, x, y, p0, params, cost, nfev, status);
    return 0;
}
