/*
 * Types and constants of the communicator interface.
 *
 * Source: public headers of CANN 8 (names, values, layout of structs).
 * Differs: usable from C and C++ alike.
 */
#ifndef HCCL_HCCL_TYPES_H
#define HCCL_HCCL_TYPES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    HCCL_SUCCESS = 0,
    HCCL_E_PARA = 1,               /* an argument or a variable of the environment is out of range */
    HCCL_E_PTR = 2,                /* a pointer is null */
    HCCL_E_MEMORY = 3,             /* no memory */
    HCCL_E_INTERNAL = 4,           /* a rank table cannot be used, or the library failed */
    HCCL_E_NOT_SUPPORT = 5,        /* not offered */
    HCCL_E_NOT_FOUND = 6,          /* no such object */
    HCCL_E_UNAVAIL = 7,            /* the current device is not the rank's */
    HCCL_E_SYSCALL = 8,            /* a system call failed */
    HCCL_E_TIMEOUT = 9,            /* ranks did not come in time */
    HCCL_E_OPEN_FILE_FAILURE = 10, /* a file cannot be opened */
    HCCL_E_TCP_CONNECT = 11,       /* a connection cannot be made */
    HCCL_E_ROCE_CONNECT = 12,      /* not used */
    HCCL_E_TCP_TRANSFER = 13,      /* a connection broke */
    HCCL_E_ROCE_TRANSFER = 14,     /* not used */
    HCCL_E_RUNTIME = 15,           /* no device is set */
    HCCL_E_DRV = 16,               /* not used */
    HCCL_E_PROFILING = 17,         /* not used */
    HCCL_E_CCE = 18,               /* not used */
    HCCL_E_NETWORK = 19,           /* not used */
    HCCL_E_AGAIN = 20,             /* work is still queued: call again */
    HCCL_E_REMOTE = 21,            /* another rank failed or ended */
    HCCL_E_SUSPENDING = 22,        /* not used */
    HCCL_E_OPRETRY_FAIL = 23,      /* not used */
    HCCL_E_OOM = 24,               /* not used */
    HCCL_E_IN_STATUS = 1041,       /* not used */
    HCCL_E_RESERVED
} HcclResult;

typedef enum {
    HCCL_DATA_TYPE_INT8 = 0,
    HCCL_DATA_TYPE_INT16 = 1,
    HCCL_DATA_TYPE_INT32 = 2,
    HCCL_DATA_TYPE_FP16 = 3,
    HCCL_DATA_TYPE_FP32 = 4,
    HCCL_DATA_TYPE_INT64 = 5,
    HCCL_DATA_TYPE_UINT64 = 6,
    HCCL_DATA_TYPE_UINT8 = 7,
    HCCL_DATA_TYPE_UINT16 = 8,
    HCCL_DATA_TYPE_UINT32 = 9,
    HCCL_DATA_TYPE_FP64 = 10,
    HCCL_DATA_TYPE_BFP16 = 11,
    HCCL_DATA_TYPE_INT128 = 12,
    HCCL_DATA_TYPE_HIF8 = 14,
    HCCL_DATA_TYPE_FP8E4M3 = 15,
    HCCL_DATA_TYPE_FP8E5M2 = 16,
    HCCL_DATA_TYPE_FP8E8M0 = 17,
    HCCL_DATA_TYPE_MXFP8 = 18,
    HCCL_DATA_TYPE_RESERVED = 255
} HcclDataType;

typedef enum {
    HCCL_REDUCE_SUM = 0,
    HCCL_REDUCE_PROD = 1,
    HCCL_REDUCE_MAX = 2,
    HCCL_REDUCE_MIN = 3,
    HCCL_REDUCE_RESERVED = 255
} HcclReduceOp;

typedef enum { HCCL_SEND = 0, HCCL_RECV = 1, HCCL_SEND_RECV_RESERVED } HcclSendRecvType;

typedef enum { HCCL_DETERMINISTIC = 0, HCCL_CONFIG_RESERVED } HcclConfig;

typedef union {
    int32_t value;
} HcclConfigValue;

typedef enum {
    HCCL_COMM_STATUS_READY = 0,
    HCCL_COMM_STATUS_SUSPENDING = 1,
    HCCL_COMM_STATUS_INVALID = 254,
    HCCL_COMM_STATUS_RESERVED = 255
} HcclCommStatus;

typedef enum {
    HCCL_COMM_CONFIG_BUFFER_SIZE = 0,
    HCCL_COMM_CONFIG_DETERMINISTIC = 1,
    HCCL_COMM_CONFIG_COMM_NAME = 2,
    HCCL_COMM_CONFIG_OP_EXPANSION_MODE = 3,
    HCCL_COMM_CONFIG_SUPPORT_INIT_BY_ENV = 4,
    HCCL_COMM_CONFIG_WORLD_RANKID = 5,
    HCCL_COMM_CONFIG_JOBID = 6,
    HCCL_COMM_CONFIG_ACLGRAPH_ZEROCOPY_ENABLE = 7,
    HCCL_COMM_CONFIG_EXEC_TIMEOUT = 8,
    HCCL_COMM_CONFIG_ALGO = 9,
    HCCL_COMM_CONFIG_RETRY = 10,
    HCCL_COMM_CONFIG_BUFFER_NAME = 11,
    HCCL_COMM_CONFIG_RESERVED = 12
} HcclCommConfigCapability;

typedef void *HcclComm;

#define HCCL_ROOT_INFO_BYTES              4108
#define COMM_NAME_MAX_LENGTH              128
#define UDI_MAX_LENGTH                    128
#define BUFFER_NAME_MAX_LENGTH            128
#define HCCL_COMM_CONFIG_INFO_BYTES       24
#define HCCL_COMM_CONFIG_MAGIC_WORD       0xf0f0f0f0U
#define HCCL_COMM_CONFIG_VERSION          10U
#define HCCL_COMM_DEFAULT_BUFFSIZE        200U
#define HCCL_COMM_ALGO_MAX_LENGTH         1600
#define HCCL_COMM_RETRY_ENABLE_MAX_LENGTH 50
#define HCCL_COMM_RETRY_PARAMS_MAX_LENGTH 128

/* "As the environment says". */
#define HCCL_COMM_BUFFSIZE_CONFIG_NOT_SET      0xffffffffU
#define HCCL_COMM_DETERMINISTIC_CONFIG_NOT_SET 0xffffffffU
#define HCCL_COMM_DEFAULT_DETERMINISTIC        0U
#define HCCL_COMM_DEFAULT_OP_EXPANSION_MODE    0U
#define HCCL_COMM_TRAFFIC_CLASS_CONFIG_NOT_SET 0xffffffffU
#define HCCL_COMM_SERVICE_LEVEL_CONFIG_NOT_SET 0xffffffffU
#define HCCL_COMM_EXECTIMEOUT_CONFIG_NOT_SET   (-1)
#define HCCL_COMM_QOS_CONFIG_NOT_SET           0xffffffffU

/* How to find the other ranks; opaque, to be copied to them byte by byte. */
typedef struct {
    char internal[HCCL_ROOT_INFO_BYTES];
} HcclRootInfo;

typedef struct {
    HcclSendRecvType sendRecvType;
    void *buf;
    uint64_t count;
    HcclDataType dataType;
    uint32_t remoteRank;
} HcclSendRecvItem;

/* Choices for one communicator; to be filled by HcclCommConfigInit first. A field counts when the struct's version is
 * the one beside it or a later one. */
typedef struct {
    char reserved[HCCL_COMM_CONFIG_INFO_BYTES];              /* struct HcclCommConfigHead */
    uint32_t hcclBufferSize;                                 /* 1: MiB, at least 1 */
    uint32_t hcclDeterministic;                              /* 1: 0 to 2; results here never vary */
    char hcclCommName[COMM_NAME_MAX_LENGTH];                 /* 2: "" for a chosen one */
    char hcclUdi[UDI_MAX_LENGTH];                            /* 3: no effect */
    uint32_t hcclOpExpansionMode;                            /* 4: no effect */
    uint32_t hcclRdmaTrafficClass;                           /* 5: no effect */
    uint32_t hcclRdmaServiceLevel;                           /* 5: no effect */
    uint32_t hcclWorldRankID;                                /* 6: no effect */
    uint64_t hcclJobID;                                      /* 6: no effect */
    uint8_t aclGraphZeroCopyEnable;                          /* 7: 0 or 1; no effect */
    int32_t hcclExecTimeOut;                                 /* 8: s that an operation waits for a late rank */
    char hcclAlgo[HCCL_COMM_ALGO_MAX_LENGTH];                /* 8: no effect */
    char hcclRetryEnable[HCCL_COMM_RETRY_ENABLE_MAX_LENGTH]; /* 8: no effect */
    char hcclRetryParams[HCCL_COMM_RETRY_PARAMS_MAX_LENGTH]; /* 8: no effect */
    char hcclBufferName[BUFFER_NAME_MAX_LENGTH];             /* 9: no effect */
    uint32_t hcclQos;                                        /* 10: no effect */
    uint64_t hcclSymWinMaxMemSizePerRank;                    /* 10: no effect */
} HcclCommConfig;

/* What HcclCommConfig.reserved holds. */
typedef struct {
    uint64_t configSize; /* sizeof(HcclCommConfig) of the program's header */
    uint32_t magicWord;  /* HCCL_COMM_CONFIG_MAGIC_WORD */
    uint32_t version;    /* HCCL_COMM_CONFIG_VERSION of the program's header */
    uint64_t pad;
} HcclCommConfigHead;

#ifdef __cplusplus
}
#endif

#endif
