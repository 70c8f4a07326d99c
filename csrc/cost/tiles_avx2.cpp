#define LOOMFAST_TILES kTilesAvx2
#define LOOMFAST_TILES_NAME "avx2"
#include "cost/tiles.inc"
