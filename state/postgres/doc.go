// Package postgres talks to one PostgreSQL server, version 13 to 18, over its own protocol: no client programs.
//
// ParseConninfo reads what libpq reads (keywords, URIs, host lists, service and password files), but never the PG*
// environment: a conninfo means the same server in a shell, in cron and in a unit file. Connect opens a session for SQL
// (facts, slots, locks); ConnectReplication opens a walsender session (identity, WAL stream, base backup). The two differ
// in what the server lets them do and in how messages are read: SQL goes through pgconn; the walsender's socket is taken
// over after authentication and read here, so that a megabyte of WAL costs no allocation and a hostile server no memory.
//
// Every error is a state.Error with a stable code and, where there is one, the exact GRANT, setting or pg_hba line that
// would help. Errors never hold a password; text that came from a server is cleaned before it is shown.
//
// Nothing here keeps a position, decides or retries: the receiver and the planner do.
package postgres
