#define LOOMFAST_TILES kTilesAvx512
#define LOOMFAST_TILES_NAME "avx512"
#define LOOMFAST_TILE_LANES 16
#define LOOMFAST_TILE_ROWS 8
#include "cost/tiles.inc"
