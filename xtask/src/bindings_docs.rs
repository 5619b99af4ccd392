//! Sentences for the items of nccl.h: ours, since the header's comments are not copied.

/// The sentence for an item.
pub(crate) fn of(name: &str) -> Option<&'static str> {
    DOCS.iter().find(|(known, _)| *known == name).map(|(_, doc)| *doc)
}

const DOCS: &[(&str, &str)] = &[
    ("NCCL_MAJOR", "The first number of the version of the header that this was made from."),
    ("NCCL_MINOR", "The second number of the version of the header that this was made from."),
    ("NCCL_PATCH", "The third number of the version of the header that this was made from."),
    ("NCCL_VERSION_CODE", "The version of the header that this was made from, as one number."),
    ("NCCL_UNIQUE_ID_BYTES", "Bytes of a [`ncclUniqueId`]."),
    ("NCCL_SPLIT_NOCOLOR", "Color of a rank that is to be in no part of a split."),
    ("NCCL_WIN_DEFAULT", "Window flag: none."),
    ("NCCL_WIN_COLL_SYMMETRIC", "Window flag: every rank has the same offsets (2.27)."),
    ("NCCL_WIN_STRICT_ORDERING", "Window flag: writes arrive in order (2.29)."),
    ("NCCL_WIN_GIN_ONLY", "Window flag: for networking from the GPU only (2.32)."),
    ("NCCL_WIN_CFT_COUNTED", "Window flag: for counted transfers (2.32)."),
    ("NCCL_WIN_REQUIRED_ALIGNMENT", "Alignment of a window's memory in bytes."),
    ("NCCL_CTA_POLICY_DEFAULT", "`CTAPolicy`: the library chooses."),
    ("NCCL_CTA_POLICY_EFFICIENCY", "`CTAPolicy`: fewer thread blocks at the same bandwidth."),
    ("NCCL_CTA_POLICY_ZERO", "`CTAPolicy`: copy engines instead of thread blocks where possible."),
    ("NCCL_SHRINK_DEFAULT", "Shrink flag: the parent has nothing to do."),
    ("NCCL_SHRINK_ABORT", "Shrink flag: stops what the parent does first."),
    ("NCCL_REVOKE_DEFAULT", "Revoke flag: the only one."),
    ("NCCL_SUSPEND_MEM", "Suspend flag: gives GPU memory back."),
    ("CUstream_st", "What a [`cudaStream_t`] points to; known to CUDA only."),
    ("cudaStream_t", "A stream of CUDA; null is the default stream."),
    ("CUevent_st", "What a [`cudaEvent_t`] points to; known to CUDA only."),
    ("cudaEvent_t", "An event of CUDA."),
    ("ncclComm", "What a [`ncclComm_t`] points to; known to NCCL only."),
    ("ncclComm_t", "A communicator: one rank's end of a group of ranks."),
    ("ncclWindow_vidmem", "What a [`ncclWindow_t`] points to; in GPU memory."),
    (
        "ncclWindow_t",
        "Registered memory that other ranks may use. Never to be read through; null when the \
         library has no support for it, although registering succeeded.",
    ),
    (
        "ncclUniqueId",
        "Where and under which number the ranks of a communicator meet: made by one rank, and \
         given to all.",
    ),
    ("ncclHostCftMode_t", "Values of `ncclConfig_t::hostCftMode` (2.31)."),
    ("ncclNvlsHostMode_t", "Values of `ncclConfig_t::nvlsHostMode` (2.32)."),
    (
        "ncclConfig_t",
        "How a communicator is made, in the newest layout. [`ncclConfig_t::new`] fills in what \
         the opened library is to see; the library reads as much as it knows.",
    ),
    ("ncclConfigExt", "An option of a vendor in a list of such."),
    ("ncclConfigExt_t", "An option of a vendor in a list of such."),
    ("ncclConfigExt__bindgen_ty_1", "Whose option, and which."),
    ("ncclConfigExt__bindgen_ty_2", "The value of an option."),
    ("ncclCollConfig_t", "How one collective is run (2.31); must live until the group ends."),
    ("ncclSimInfo_t", "What `ncclGroupSimulateEnd` estimates."),
    ("ncclCommMemStat_t", "Which number `ncclCommMemStats` is to give."),
    (
        "ncclRedOp_t",
        "A reduction; those made by `ncclRedOpCreatePreMulSum` are 5 and above. A newtype and no \
         enum, since any number may come.",
    ),
    ("ncclDataType_t", "A type of elements; the two of 8-bit floats are known since 2.24."),
    ("ncclScalarResidence_t", "Where the scalar of a reduction lies."),
    ("ncclWaitSignalDesc_t", "How many signals of which peer are waited for."),
    ("ncclEncryptionMode_t", "Values of `ncclEncryptionConfig_t::mode`."),
    ("ncclEncryptionConfig_t", "How the process encrypts its sockets (2.32)."),
    ("ncclParamHandle", "What a [`ncclParamHandle_t`] points to; known to NCCL only."),
    ("ncclParamHandle_t", "A parameter of NCCL (2.30); never to be freed."),
];
