#include "run_main.h"

#include "run_job.h"
#include "run_options.h"
#include "run_part.h"
#include "run_processors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* No descriptor of this program may become a standard stream of a rank. What stands in for a closed one can no more be
 * read or written than that. */
static void fill_streams(void)
{
    for (int i = 0; i < 3; i++) {
        if (fcntl(i, F_GETFD) < 0) {
            (void)open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* takes the lowest number: i */
        }
    }
}

static void end_by(int number)
{
    sigset_t set;
    (void)signal(number, SIG_DFL);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, number);
    (void)raise(number);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static struct run_result run_part(struct run_options *options, const struct run_processors *processors)
{
    struct run_part part;
    struct run_result result = {.status = RUN_STATUS_BROKEN};
    if (run_part_init(&part, options)) {
        result = run_job_run(options, processors, &part);
    }
    run_part_fini(&part);
    return result;
}

int run_main(int argc, char **argv)
{
    struct run_processors processors;
    struct run_options options;
    struct run_result result = {.status = RUN_STATUS_BROKEN};
    fill_streams();
    if (!run_processors_init(&processors)) {
        (void)fprintf(stderr, "epx run: cannot read the processors of this command: %s\n", strerror(errno));
        return result.status;
    }
    if (!run_options_init(&options, processors.count, argc, argv)) {
        (void)fprintf(stderr, "epx run: no memory\n");
    } else if (!options.is_part) {
        result = run_job_run(&options, &processors, NULL);
        run_options_fini(&options);
    } else {
        result = run_part(&options, &processors);
        run_options_fini(&options);
    }
    run_processors_fini(&processors);
    if (result.signal != 0) {
        end_by(result.signal);
    }
    return result.status;
}
