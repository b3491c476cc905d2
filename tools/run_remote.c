#include "run_remote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define DEFAULT_SHELL "ssh"

/* Pipes have so much room without asking. */
#define PIPE_BYTES 65536

extern char **environ;

/* ---- Commands ------------------------------------------------------------------------------------------------- */

/* A word in single quotes means itself to a POSIX shell, but for the quote. */
static void put_quoted(FILE *command, const char *word)
{
    (void)fputc('\'', command);
    for (const char *c = word; *c != '\0'; c++) {
        (void)fputs(*c == '\'' ? "'\\''" : (const char[2]){*c, '\0'}, command);
    }
    (void)fputc('\'', command);
}

/* Null: errno says why. */
static char *write_command(const struct run_options *options, const struct run_host *host)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *command = open_memstream(&text, &bytes);
    if (command == NULL) {
        return NULL;
    }
    (void)fputs("exec ", command);
    put_quoted(command, options->remote_epx);
    (void)fprintf(command, " run --part %u:%u:%u --linger %.9f --kill-after %.9f%s%s --", host->first, host->count,
                  options->world_size, (double)options->linger_ns * 1e-9, (double)options->kill_after_ns * 1e-9,
                  options->bind ? " --bind core" : "", options->tag ? " --tag" : "");
    for (char *const *word = options->program; *word != NULL; word++) {
        (void)fputc(' ', command);
        put_quoted(command, *word);
    }
    bool failed = ferror(command) != 0;
    if (fclose(command) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

static bool split_shell(struct run_remotes *remotes)
{
    const char *given = getenv("EPX_RSH");
    char *rest = NULL;
    if (given == NULL || given[strspn(given, " ")] == '\0') {
        given = DEFAULT_SHELL;
    }
    remotes->shell = strdup(given);
    remotes->words = calloc(strlen(given) + 3, sizeof *remotes->words);
    if (remotes->shell == NULL || remotes->words == NULL) {
        return false;
    }
    for (char *word = strtok_r(remotes->shell, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        remotes->words[remotes->word_count++] = word;
    }
    return true;
}

/* ---- The letter ----------------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* What ranks elsewhere are given of the caller's environment. EPX_HOST_ID tells this host from others. */
static bool is_passed_on(const char *variable, bool has_job, bool has_root)
{
    if (begins(variable, "EPX_RANK=") || begins(variable, "EPX_WORLD_SIZE=") || begins(variable, "EPX_HOST_ID=") ||
        (has_job && begins(variable, "EPX_JOB=")) || (has_root && begins(variable, "EPX_ROOT="))) {
        return false;
    }
    return begins(variable, "EPX_") || begins(variable, "HCCL_") || begins(variable, "ASCEND_");
}

static void put_text(FILE *letter, const char *name, const char *text)
{
    (void)fprintf(letter, "%s%s", name, text);
    (void)fputc('\0', letter);
}

/* Texts, each with its end: what reports begin with, the working directory, NAME=VALUE…, an empty one. */
static bool write_letter(struct run_remotes *remotes, const struct run_options *options, const char *job)
{
    char directory[PATH_MAX];
    if (getcwd(directory, sizeof directory) == NULL) {
        return false;
    }
    FILE *letter = open_memstream(&remotes->letter, &remotes->letter_bytes);
    if (letter == NULL) {
        return false;
    }
    put_text(letter, "", remotes->word);
    put_text(letter, "", directory);
    for (char **variable = environ; *variable != NULL; variable++) {
        if (is_passed_on(*variable, job[0] != '\0', options->root != NULL)) {
            put_text(letter, "", *variable);
        }
    }
    if (job[0] != '\0') {
        put_text(letter, "EPX_JOB=", job);
    }
    if (options->root != NULL) {
        put_text(letter, "EPX_ROOT=", options->root);
    }
    for (size_t i = 0; i < options->variable_count; i++) {
        put_text(letter, "", options->variables[i]);
    }
    (void)fputc('\0', letter);
    bool failed = ferror(letter) != 0;
    return fclose(letter) == 0 && !failed;
}

/* ---- Entry points --------------------------------------------------------------------------------------------- */

bool run_remotes_init(struct run_remotes *remotes, const struct run_options *options, const char *job)
{
    const struct run_hosts *hosts = &options->hosts;
    uint64_t number = 0;
    *remotes = (struct run_remotes){.count = 0};
    remotes->remotes = calloc((size_t)hosts->count + 1, sizeof *remotes->remotes);
    if (remotes->remotes == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < hosts->count; i++) {
        struct run_remote *remote = &remotes->remotes[remotes->count];
        if (hosts->hosts[i].here) {
            continue;
        }
        *remote = (struct run_remote){.host = &hosts->hosts[i], .leash = -1};
        remotes->count++;
        remote->command = write_command(options, remote->host);
        if (remote->command == NULL) {
            return false;
        }
    }
    if (remotes->count == 0) {
        return true;
    }
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
        return false;
    }
    (void)snprintf(remotes->word, sizeof remotes->word, "epx-run-%016llx", (unsigned long long)number);
    (void)signal(SIGPIPE, SIG_IGN);
    return split_shell(remotes) && write_letter(remotes, options, job);
}

void run_remotes_fini(struct run_remotes *remotes)
{
    for (uint32_t i = 0; i < remotes->count; i++) {
        run_remote_let_go(&remotes->remotes[i]);
        free(remotes->remotes[i].command);
    }
    free(remotes->remotes);
    free(remotes->letter);
    free(remotes->shell);
    free(remotes->words);
    *remotes = (struct run_remotes){.count = 0};
}

struct run_remote *run_remotes_find(const struct run_remotes *remotes, uint32_t rank)
{
    for (uint32_t i = 0; i < remotes->count; i++) {
        if (rank - remotes->remotes[i].host->first < remotes->remotes[i].host->count) {
            return &remotes->remotes[i];
        }
    }
    return NULL;
}

bool run_remote_leash(struct run_remote *remote, const struct run_remotes *remotes, int *end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    *end = ends[0];
    remote->leash = ends[1];
    (void)fcntl(ends[1], F_SETFL, O_NONBLOCK);
    if (remotes->letter_bytes > PIPE_BYTES / 2) {
        (void)fcntl(ends[1], F_SETPIPE_SZ, (int)remotes->letter_bytes + PIPE_BYTES / 2);
    }
    if (write(ends[1], remotes->letter, remotes->letter_bytes) != (ssize_t)remotes->letter_bytes) {
        run_remote_let_go(remote);
        (void)close(ends[0]);
        errno = E2BIG;
        return false;
    }
    return true;
}

void run_remote_let_go(struct run_remote *remote)
{
    if (remote->leash >= 0) {
        (void)close(remote->leash);
        remote->leash = -1;
    }
}

void run_remote_become(const struct run_remote *remote, const struct run_remotes *remotes)
{
    remotes->words[remotes->word_count] = remote->host->name;
    remotes->words[remotes->word_count + 1] = remote->command;
    (void)execvp(remotes->words[0], remotes->words);
}

void run_remote_signal(struct run_remote *remote, int number)
{
    unsigned char byte = (unsigned char)number;
    if (remote->pid <= 0 || remote->ended) {
        return;
    }
    if (remote->leash >= 0) {
        (void)!write(remote->leash, &byte, 1);
    }
    if (!remote->ready && (number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT)) {
        (void)kill(-remote->pid, number);
    }
}

void run_remotes_kill(const struct run_remotes *remotes, bool all)
{
    for (uint32_t i = 0; i < remotes->count; i++) {
        const struct run_remote *remote = &remotes->remotes[i];
        if (remote->pid > 0 && !remote->ended && (all || !remote->ready)) {
            (void)kill(-remote->pid, SIGKILL);
        }
    }
}
