#include "base/config.h"
#include "epx/epx.h"

static void print_option(FILE *out, enum epx_option_id id)
{
    const struct epx_option *option = epx_option_describe(id);
    (void)fprintf(out, "%-28s %-16s %-12s ", option->name, epx_option_text(id),
                  epx_option_is_set(id) ? "environment" : "default");
    switch (option->kind) {
    case EPX_OPTION_INTEGER:
        (void)fprintf(out, "[%lld, %lld]", (long long)option->minimum, (long long)option->maximum);
        break;
    case EPX_OPTION_CHOICE: (void)fprintf(out, "%s", option->choices); break;
    case EPX_OPTION_TEXT: (void)fprintf(out, "text"); break;
    }
    (void)fprintf(out, "\n    %s (default: %s)\n", option->help,
                  option->default_text[0] != '\0' ? option->default_text : "none");
}

void epx_options_print(FILE *out)
{
    if (out == NULL) {
        return;
    }
    (void)fprintf(out, "%-28s %-16s %-12s %s\n", "option", "value", "source", "allowed");
    for (int id = 0; id < EPX_OPTION_COUNT; id++) {
        print_option(out, (enum epx_option_id)id);
    }
}
