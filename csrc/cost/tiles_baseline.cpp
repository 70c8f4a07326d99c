#define LOOMFAST_TILES kTilesBaseline
#define LOOMFAST_TILES_NAME "baseline"
#define LOOMFAST_TILE_LANES 4
#define LOOMFAST_TILE_ROWS 6
#include "cost/tiles.inc"
