#define LOOMFAST_TILES kTilesAvx2
#define LOOMFAST_TILES_NAME "avx2"
#define LOOMFAST_TILE_LANES 8
#define LOOMFAST_TILE_ROWS 6
#include "cost/tiles.inc"
