// The limits that Jittor 1.3.11 takes from NVIDIA's library of image processing, which is then needed for nothing
// else and which neither PyTorch's wheels nor small toolkits have.
#pragma once

#define NPP_MIN_32U 0
#define NPP_MAX_32U 4294967295U
#define NPP_MIN_32S (-2147483647 - 1)
#define NPP_MAX_32S 2147483647
#define NPP_MIN_64U 0
#define NPP_MAX_64U 18446744073709551615ULL
#define NPP_MIN_64S (-9223372036854775807LL - 1)
#define NPP_MAX_64S 9223372036854775807LL
