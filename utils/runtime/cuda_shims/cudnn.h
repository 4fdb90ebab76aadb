// cuDNN 9 with the recurrent networks of cuDNN 8, which Jittor 1.3.11 compiles and we never call: they answer
// "not supported". The header that was found lies beside this one under another name.
#pragma once
#include "cudnn_found.h"

#ifdef __cplusplus
#define PRANET_GONE(function) \
    template <class... Arguments> \
    cudnnStatus_t function(Arguments&&...) { return CUDNN_STATUS_NOT_SUPPORTED; }

PRANET_GONE(cudnnSetRNNDescriptor_v6)
PRANET_GONE(cudnnGetRNNParamsSize)
PRANET_GONE(cudnnGetRNNWorkspaceSize)
PRANET_GONE(cudnnGetRNNTrainingReserveSize)
PRANET_GONE(cudnnGetRNNLinLayerMatrixParams)
PRANET_GONE(cudnnGetRNNLinLayerBiasParams)
PRANET_GONE(cudnnRNNForwardInference)
PRANET_GONE(cudnnRNNForwardTraining)
PRANET_GONE(cudnnRNNBackwardData)
PRANET_GONE(cudnnRNNBackwardWeights)

#undef PRANET_GONE
#endif
