/*
 * Variables that the code under test finds with getenv, in place of the environment's own: to set one costs no memory
 * that is never given back. Linked with --wrap=getenv.
 */
#ifndef EPX_TESTS_FUZZ_FAKE_ENVIRONMENT_H
#define EPX_TESTS_FUZZ_FAKE_ENVIRONMENT_H

#include <stddef.h>

/* `text` must stay until the variable is set again or all are forgotten. Null: it is not set, whatever the environment
 * says. Variables that were never set here are the environment's. */
void fake_environment_set(const char *name, const char *text);

/* Those that were set here are the environment's again. */
void fake_environment_forget(void);

/* A copy of the next line of the bytes, as a text of its own size; *data and *bytes move on behind it. */
char *fake_environment_line(const unsigned char **data, size_t *bytes);

#endif
