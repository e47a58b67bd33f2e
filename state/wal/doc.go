// Package wal holds the words of PostgreSQL's write-ahead log: positions (LSN), timelines, segments and their names,
// ranges, history files, and a reader of records.
//
// Everything here is arithmetic on values: nothing opens a file, asks a server or reads a clock. A fact that belongs to
// one cluster, its segment size above all, travels as an argument, so that two clusters can live in one process.
//
// Facts about PostgreSQL are from src/include/access/xlog_internal.h, xlogrecord.h and xlogdefs.h, versions 13 to 18,
// unless a comment names another source.
package wal
