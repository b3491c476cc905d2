/*
 * Any bytes as the text of an option: accepted as a value that its description allows, or refused with a text that
 * names it. The first byte chooses the option. What reads options for itself is asked, too: the launcher's variables,
 * the list of visible devices.
 */
#include "base/config.h"
#include "base/status.h"
#include "cann/exports_acl.h"
#include "comm/comm.h"
#include "epx/epx.h"
#include "epx/launcher.h"
#include "fuzz/fake_environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static int64_t choice_count(const char *choices)
{
    int64_t count = 1;
    for (; *choices != '\0'; choices++) {
        count += *choices == '|';
    }
    return count;
}

static void check_refusal(enum epx_status status, const char *name)
{
    require(status == EPX_ERR_CONFIG);
    require(strstr(epx_error_text(), name) != NULL);
}

static void check_number(enum epx_option_id id)
{
    const struct epx_option *option = epx_option_describe(id);
    const char *text = epx_option_text(id);
    int64_t value = -77;
    enum epx_status status = epx_option_integer(id, &value);
    if (status != EPX_OK) {
        check_refusal(status, option->name);
        require(value == -77);
    } else if (option->kind == EPX_OPTION_CHOICE) {
        require(value >= 0 && value < choice_count(option->choices));
        require(strlen(text) <= strlen(option->choices));
    } else {
        require(value >= option->minimum && value <= option->maximum);
        require(strspn(text, "-0123456789") == strlen(text) && strtoll(text, NULL, 10) == value);
    }
}

static void check_timeout(enum epx_status (*read)(int64_t *))
{
    int64_t timeout_ms = 0;
    enum epx_status status = read(&timeout_ms);
    require(status == EPX_OK ? timeout_ms == -1 || timeout_ms > 0 : status == EPX_ERR_CONFIG);
}

static void check_launcher(const char *text)
{
    static const char *const names[] = {"EPX_RANK", "EPX_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS"};
    struct epx_launch launch;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        fake_environment_set("EPX_RANK", "0");
        fake_environment_set("EPX_WORLD_SIZE", "4");
        fake_environment_set("EPX_JOB", "fuzz");
        fake_environment_set(names[i], text);
        if (epx_launch_read(&launch) == EPX_OK) {
            require(launch.rank < launch.rank_count && launch.rank_count <= EPX_COMM_RANK_MAX);
        } else {
            require(epx_error_text()[0] != '\0');
        }
        fake_environment_set(names[i], NULL);
    }
    fake_environment_set("EPX_JOB", NULL);
}

static void check_devices(void)
{
    uint32_t count = 0;
    if (epx_cann_aclrtGetDeviceCount(&count) == 0) {
        require(count <= 1024);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static FILE *sink;
    if (sink == NULL) {
        sink = fopen("/dev/null", "w");
        fake_environment_set("EPX_LOG", "none");
    }
    if (bytes == 0 || sink == NULL) {
        return 0;
    }
    enum epx_option_id id = (enum epx_option_id)(data[0] % EPX_OPTION_COUNT);
    const struct epx_option *option = epx_option_describe(id);
    char *text = calloc(bytes, 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data + 1, bytes - 1);
    fake_environment_set(option->name, text);
    require(strcmp(epx_option_text(id), text[0] != '\0' ? text : option->default_text) == 0);
    require(epx_option_is_set(id) == (text[0] != '\0'));
    if (option->kind != EPX_OPTION_TEXT && (epx_option_is_set(id) || option->default_text[0] != '\0')) {
        check_number(id);
    }
    check_timeout(epx_option_op_timeout_ms);
    check_timeout(epx_option_join_timeout_ms);
    check_devices();
    if ((data[0] & 0xE0) == 0xE0) {
        epx_options_print(sink); /* of all of them, which takes time */
    }
    fake_environment_set(option->name, NULL);
    check_launcher(text);
    free(text);
    return 0;
}
