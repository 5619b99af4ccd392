/* The seven operations of `nccl perf --csv`, over MPI: one CSV row per operation and size.
 *
 *   mpicc -O2 -o mpi_loop mpi_loop.c && mpirun -n 2 ./mpi_loop NAME TRANSPORT SIZES BUDGET
 *
 * Columns, sizes and times as docs/perf.md has them: every iteration is timed on every rank, back to
 * back; an iteration takes as long as on its slowest rank; sendrecv is half a round trip.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ITERATIONS = 20000, FEWEST_ITERATIONS = 7 };

static int rank, ranks;
static float *input, *output;

static void all_reduce(int count, int share) {
    (void)share;
    MPI_Allreduce(MPI_IN_PLACE, input, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
static void all_gather(int count, int share) {
    (void)count;
    MPI_Allgather(input, share, MPI_FLOAT, output, share, MPI_FLOAT, MPI_COMM_WORLD);
}
static void reduce_scatter(int count, int share) {
    (void)count;
    MPI_Reduce_scatter_block(input, output, share, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
static void broadcast(int count, int share) {
    (void)share;
    MPI_Bcast(input, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
}
static void all_to_all(int count, int share) {
    (void)count;
    MPI_Alltoall(input, share, MPI_FLOAT, output, share, MPI_FLOAT, MPI_COMM_WORLD);
}
static void barrier(int count, int share) {
    (void)count, (void)share;
    MPI_Barrier(MPI_COMM_WORLD);
}
static void sendrecv(int count, int share) {
    (void)share;
    if (rank == 0) {
        MPI_Send(input, count, MPI_FLOAT, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(output, count, MPI_FLOAT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
        MPI_Recv(output, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(input, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
    }
}

static const struct {
    const char *name;
    void (*once)(int, int);
} operations[] = {
    {"all_reduce", all_reduce}, {"all_gather", all_gather}, {"reduce_scatter", reduce_scatter},
    {"broadcast", broadcast},   {"all_to_all", all_to_all}, {"barrier", barrier},
    {"sendrecv", sendrecv},
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(int which, long bytes, double budget, const char *peer, const char *transport) {
    int count = bytes / 4 ? (int)(bytes / 4) : 1, share = count / ranks ? count / ranks : 1;
    double quickest = 1e9, *mine = malloc(MOST_ITERATIONS * sizeof *mine), *slowest = malloc(MOST_ITERATIONS * sizeof *slowest);
    for (int i = 0; i < (bytes >= 1 << 24 ? 3 : bytes >= 1 << 20 ? 20 : 100); i++) {
        double from = MPI_Wtime();
        operations[which].once(count, share);
        double took = MPI_Wtime() - from;
        quickest = took < quickest ? took : quickest;
    }
    MPI_Allreduce(MPI_IN_PLACE, &quickest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    long iterations = (long)(budget / (quickest > 1e-7 ? quickest : 1e-7));
    if (iterations < FEWEST_ITERATIONS) iterations = FEWEST_ITERATIONS;
    if (iterations > MOST_ITERATIONS) iterations = MOST_ITERATIONS;
    MPI_Bcast(&iterations, 1, MPI_LONG, 0, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    double begun = MPI_Wtime(), last = begun;
    for (long i = 0; i < iterations; i++) {
        operations[which].once(count, share);
        double now = MPI_Wtime();
        mine[i] = now - last;
        last = now;
    }
    double mean = (last - begun) / iterations, half = 1;
    if (operations[which].once == sendrecv) {
        half = 0.5;
        if (rank) memset(mine, 0, iterations * sizeof *mine);
    }
    MPI_Allreduce(MPI_IN_PLACE, &mean, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    MPI_Reduce(mine, slowest, (int)iterations, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        qsort(slowest, iterations, sizeof *slowest, by_size);
        printf("%s,%s,%s,%ld,%d,%.3f,%.3f,,f32,%.3f,%ld\n", peer, transport, operations[which].name,
               bytes, ranks, slowest[iterations / 2] * half * 1e6,
               slowest[(long)((iterations - 1) * 0.99)] * half * 1e6, mean * half * 1e6, iterations);
        fflush(stdout);
    }
    free(mine);
    free(slowest);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (argc != 5) {
        if (rank == 0) fprintf(stderr, "usage: mpi_loop NAME TRANSPORT SIZES BUDGET\n");
        MPI_Finalize();
        return 2;
    }
    long sizes[64], most = 1 << 20;
    int listed = 0;
    for (char *size = strtok(argv[3], ","); size && listed < 64; size = strtok(NULL, ",")) {
        sizes[listed] = atol(size);
        most = sizes[listed] > most ? sizes[listed] : most;
        listed++;
    }
    input = calloc(1, most + 4096);
    output = calloc(1, most + 4096);
    memset(output, 1, most + 4096);
    for (unsigned which = 0; which < sizeof operations / sizeof *operations; which++) {
        if (operations[which].once == sendrecv && ranks != 2) continue;
        for (int i = 0; i < (operations[which].once == barrier ? 1 : listed); i++)
            measure((int)which, operations[which].once == barrier ? 0 : sizes[i], atof(argv[4]), argv[1], argv[2]);
    }
    MPI_Finalize();
    return 0;
}
