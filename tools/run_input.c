#include "run_input.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

bool run_input_init(struct run_input *input)
{
    int ends[2];
    *input = (struct run_input){.rank_end = -1, .relay = -1};
    if (isatty(STDIN_FILENO) == 0) {
        return true;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)fcntl(ends[1], F_SETFL, O_NONBLOCK);
    input->rank_end = ends[0];
    input->relay = ends[1];
    return true;
}

void run_input_fini(struct run_input *input)
{
    if (input->relay >= 0) {
        (void)close(input->relay);
        input->relay = -1;
    }
}

void run_input_watch(const struct run_input *input, struct pollfd *watched)
{
    *watched = (struct pollfd){.fd = -1};
    if (input->relay < 0) {
        return;
    }
    if (input->begin < input->end) {
        *watched = (struct pollfd){.fd = input->relay, .events = POLLOUT};
    } else if (tcgetpgrp(STDIN_FILENO) == getpgrp()) {
        *watched = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    }
}

void run_input_move(struct run_input *input, const struct pollfd *watched)
{
    if (input->relay < 0 || watched->revents == 0) {
        return;
    }
    ssize_t moved = 0;
    if (watched->fd == STDIN_FILENO) {
        moved = read(STDIN_FILENO, input->bytes, sizeof input->bytes);
        input->begin = 0;
        input->end = moved > 0 ? (size_t)moved : 0;
    } else {
        moved = write(input->relay, input->bytes + input->begin, input->end - input->begin);
        input->begin += moved > 0 ? (size_t)moved : 0;
    }
    if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR)) {
        run_input_fini(input); /* its end, the terminal's, or that of who reads it */
    }
}
