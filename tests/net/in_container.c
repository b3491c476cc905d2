/*
 * Runs a program as a strict container would: without pidfds, and without a look into other processes.
 *   epx_in_container PROGRAM ARGUMENTS…
 * Exit status: the program's; 77 where such a filter cannot be had; 127 when the program cannot be run.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REFUSE(call)                                                                                                   \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

int main(int argc, char **argv)
{
    struct sock_filter calls[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(__NR_pidfd_open),
        REFUSE(__NR_pidfd_send_signal),
        REFUSE(__NR_pidfd_getfd),
        REFUSE(__NR_process_vm_readv),
        REFUSE(__NR_process_vm_writev),
        REFUSE(__NR_ptrace),
        REFUSE(__NR_kcmp),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof calls / sizeof calls[0], .filter = calls};
    if (argc < 2) {
        fprintf(stderr, "epx_in_container: no program\n");
        return 2;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        fprintf(stderr, "epx_in_container: no filter of system calls: %s\n", strerror(errno));
        return 77;
    }
    (void)syscall(__NR_pidfd_open, getpid(), 0);
    if (errno != EPERM) {
        fprintf(stderr, "epx_in_container: the filter does not filter\n");
        return 77;
    }
    (void)execvp(argv[1], argv + 1);
    fprintf(stderr, "epx_in_container: %s: %s\n", argv[1], strerror(errno));
    return 127;
}
