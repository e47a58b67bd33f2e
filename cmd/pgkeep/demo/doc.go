// Package demo plays the main job on a PostgreSQL server of its own: protect it, lose a table, get it back.
//
// Each command of pgkeep that it shows is run as a process of its own, with the configuration of examples/demo, so that
// what a newcomer sees is what a command prints. Beside that, the demo plays two parts: the administrator, who makes and
// starts servers with initdb and pg_ctl, and the shop, which writes orders with pgbench and over a connection of its own.
// The shop speaks SQL because a shop does; nothing here reads or decides anything for pgkeep.
//
// Everything lives in one directory. The servers listen on sockets in it that nobody else may reach, run as another user
// when the demo runs as root (PostgreSQL refuses root), and are stopped and removed at the end, also on Ctrl-C.
package demo
