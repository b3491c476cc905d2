/*
 * Codes of the graph engine. There is none here; the header exists because programs get it with acl/acl.h.
 *
 * Source: include graph of CANN 8.
 */
#ifndef ACL_ERROR_CODES_GE_ERROR_CODES_H
#define ACL_ERROR_CODES_GE_ERROR_CODES_H

#include <stdint.h>

#endif
