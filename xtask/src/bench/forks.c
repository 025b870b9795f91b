/* What a fork costs, and one with an exec: nanoseconds each, the median of batches. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 41, FORKS = 50 };

static double batch(int with_exec) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int at = 0; at < FORKS; at++) {
        pid_t child = vfork();
        if (child == 0) {
            if (with_exec) execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) < 0) exit(1);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / FORKS;
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void) {
    for (int with_exec = 0; with_exec < 2; with_exec++) {
        double times[BATCHES];
        for (int at = 0; at < BATCHES; at++) times[at] = batch(with_exec);
        qsort(times, BATCHES, sizeof *times, order);
        printf("%.0f\n", times[BATCHES / 2]);
    }
    return 0;
}
