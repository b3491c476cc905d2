/*
 * Products: whose limits a call of the CANN interface is held to. EPX_PRODUCT chooses one, read at each first phase:
 * `host` has no limit that the machine does not have; `A2` and `A3` have the interface page's. This is the only place
 * with such limits.
 */
#ifndef EPX_CANN_PRODUCT_H
#define EPX_CANN_PRODUCT_H

#include "base/status.h"
#include "cann/moe_call.h"

#include <stdbool.h>
#include <stdint.h>

enum epx_product {
    EPX_PRODUCT_HOST = 0, /* equal to the index in EPX_PRODUCT's choices */
    EPX_PRODUCT_A2 = 1,
    EPX_PRODUCT_A3 = 2,
    EPX_PRODUCT_COUNT = 3,
};

/* The selected product. EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_product_current(enum epx_product *product);

/* The largest device id that a rank table or a list of devices may name. EPX_ERR_CONFIG. */
EPX_NODISCARD enum epx_status epx_product_device_id_max(uint32_t *device_id_max);

/* Whether the environment asks for the two-level exchange, and the product knows it. */
bool epx_product_two_level(enum epx_product product);

/*
 * What the device's interface layer and framework refuse, in their order: absent tensors and group names, then dtypes.
 * EPX_ERR_NULL, EPX_ERR_DTYPE. Never reads tensor data.
 */
EPX_NODISCARD enum epx_status epx_product_check_call(const struct epx_cann_call *call, enum epx_product product);

/* What the product's operator refuses, in its order: attributes, then shapes. After epx_product_check_call.
 * EPX_ERR_INVALID, EPX_ERR_SHAPE. */
EPX_NODISCARD enum epx_status epx_product_check_limits(const struct epx_cann_call *call, enum epx_product product);

/* Whether a communicator's buffer of this size is enough. After epx_product_check_limits. EPX_ERR_INVALID with bytes
 * needed and given. */
EPX_NODISCARD enum epx_status epx_product_check_buffer(const struct epx_cann_call *call, enum epx_product product,
                                                       uint32_t buffer_mib);

/* Whether a call reads or writes the tensor of this role at all. */
bool epx_product_uses(const struct epx_cann_call *call, enum epx_product product, enum epx_cann_role role);

#endif
