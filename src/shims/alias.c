/*
 * For the libraries of CANN that programs name when they link and that hold nothing they use: there to be found.
 */
extern const char epx_alias_version[];
const char epx_alias_version[] = "epx";
