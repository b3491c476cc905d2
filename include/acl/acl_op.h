/*
 * Single operators by name are not offered. The header exists because programs include it, alone or with acl/acl.h.
 *
 * Source: include graph of CANN 8.
 */
#ifndef ACL_ACL_OP_H
#define ACL_ACL_OP_H

#include "acl_base.h"

#endif
