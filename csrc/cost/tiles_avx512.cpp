#define LOOMFAST_TILES kTilesAvx512
#define LOOMFAST_TILES_NAME "avx512"
#include "cost/tiles.inc"
