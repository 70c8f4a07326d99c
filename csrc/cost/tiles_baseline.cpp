#define LOOMFAST_TILES kTilesBaseline
#define LOOMFAST_TILES_NAME "baseline"
#include "cost/tiles.inc"
