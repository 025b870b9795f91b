/* An agent in C, for what scripts cannot do to themselves. It speaks just enough of PostgreSQL's
 * protocol to run one statement and wait for its end.
 *
 *   agent ADDRESS STEP...     where a STEP is one of
 *     wait        waits for a line on standard input
 *     fork        goes on in a child; the parent waits for it
 *     orphan      goes on in a grandchild, whose parents have ended
 *     setuid=N    becomes another user (for a file that is set-user-id root)
 *     exec=FILE   runs FILE with the same ADDRESS and the steps that are left, the connection kept
 *     disguise    gives itself another name and command line
 *     thread      goes on in another thread
 *     connect     connects and signs on
 *     query=TEXT  runs a statement; %p in it is the process id as this process sees it
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The connection is this descriptor, also behind an exec. */
enum { CONNECTION = 9 };

static char **arguments;
static char *address;
static int last;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void must_read(void *to, size_t count) {
    char *at = to;
    while (count > 0) {
        ssize_t got = read(CONNECTION, at, count);
        if (got <= 0) {
            fprintf(stderr, "the connection ended\n");
            exit(3);
        }
        at += got;
        count -= (size_t)got;
    }
}

/* Reads up to ReadyForQuery; answers whether an error came. */
static int until_ready(void) {
    int failed = 0;
    for (;;) {
        char tag;
        unsigned int length;
        must_read(&tag, 1);
        must_read(&length, 4);
        length = ntohl(length) - 4;
        char *body = calloc(1, length + 1);
        must_read(body, length);
        if (tag == 'E') {
            failed = 1;
            for (char *field = body; *field; field += strlen(field) + 1)
                fprintf(stderr, "%s\n", field);
        }
        free(body);
        if (tag == 'Z') return failed;
    }
}

static void connect_to_server(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(5432)};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) fail("address");
    int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (socket_fd < 0 || dup2(socket_fd, CONNECTION) < 0) fail("socket");
    close(socket_fd);
    if (connect(CONNECTION, (struct sockaddr *)&to, sizeof to) != 0) fail("connect");
    static const char parameters[] = "user\0postgres\0database\0postgres\0";
    char packet[256];
    unsigned int length = htonl(8 + sizeof parameters), version = htonl(196608);
    memcpy(packet, &length, 4);
    memcpy(packet + 4, &version, 4);
    memcpy(packet + 8, parameters, sizeof parameters);
    if (write(CONNECTION, packet, 8 + sizeof parameters) < 0) fail("write");
    if (until_ready()) exit(4);
}

static void query(const char *text) {
    char statement[512], packet[600] = "Q";
    const char *mark = strstr(text, "%p");
    if (mark)
        snprintf(statement, sizeof statement, "%.*s%d%s", (int)(mark - text), text, getpid(), mark + 2);
    else
        snprintf(statement, sizeof statement, "%s", text);
    unsigned int size = (unsigned int)strlen(statement) + 1, length = htonl(size + 4);
    memcpy(packet + 1, &length, 4);
    memcpy(packet + 5, statement, size);
    if (write(CONNECTION, packet, 5 + size) < 0) fail("write");
    if (until_ready()) exit(5);
}

static void disguise(void) {
    prctl(PR_SET_NAME, "postgres", 0, 0, 0);
    for (int at = 0; at < last; at++) {
        memset(arguments[at], 'x', strlen(arguments[at]));
    }
}

static void *go(void *steps) {
    char **step = steps;
    for (; *step; step++) {
        if (strcmp(*step, "wait") == 0) {
            char line[64];
            if (!fgets(line, sizeof line, stdin)) exit(6);
        } else if (strcmp(*step, "fork") == 0 || strcmp(*step, "orphan") == 0) {
            int orphan = step[0][0] == 'o';
            pid_t child = fork();
            if (child < 0) fail("fork");
            if (child > 0) {
                int status = 0;
                waitpid(child, &status, 0);
                exit(WIFEXITED(status) ? WEXITSTATUS(status) : 7);
            }
            if (orphan) {
                int gone[2];
                if (pipe(gone) != 0) fail("pipe");
                child = fork();
                if (child != 0) _exit(0);
                /* Its parent's end of the pipe closes with it. */
                close(gone[1]);
                char byte;
                while (read(gone[0], &byte, 1) > 0) {}
            }
        } else if (strncmp(*step, "setuid=", 7) == 0) {
            if (setuid((uid_t)atoi(*step + 7)) != 0) fail("setuid");
        } else if (strncmp(*step, "exec=", 5) == 0) {
            char *file = *step + 5;
            /* argv[0] FILE, argv[1] ADDRESS, then the rest. */
            char *next[64] = {file, address};
            int count = 2;
            for (char **rest = step + 1; *rest && count < 63; rest++) next[count++] = *rest;
            execv(file, next);
            fail("exec");
        } else if (strcmp(*step, "disguise") == 0) {
            disguise();
        } else if (strcmp(*step, "thread") == 0) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, go, step + 1) != 0) fail("thread");
            pthread_join(thread, NULL);
            exit(0);
        } else if (strcmp(*step, "connect") == 0) {
            connect_to_server();
        } else if (strncmp(*step, "query=", 6) == 0) {
            query(*step + 6);
        } else {
            fprintf(stderr, "no step: %s\n", *step);
            exit(2);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    arguments = argv;
    last = argc;
    if (argc < 2) return 2;
    char **steps = calloc((size_t)argc + 1, sizeof *steps);
    /* Copies: disguise overwrites the originals. */
    for (int at = 1; at < argc; at++) steps[at - 1] = strdup(argv[at]);
    address = steps[0];
    go(steps + 1);
    return 0;
}
