// Package pgtest runs real PostgreSQL servers, version 13 to 18, for tests.
//
// Versions gives the majors to test with and installs what is missing (install.sh, which the demo and the benchmark use
// too); PGKEEP_PG="13,15" narrows them. Start makes a new cluster with a system identifier of its own on a free port;
// Standby makes a streaming standby of one; StartDir starts a directory that a test restored. Each server stops, and its
// files go, when the test ends; it also stops when the test process dies.
//
// Clusters are copies of an initdb kept beside the servers: the copy's system identifier is changed in pg_control and in
// the header of its one WAL segment, so two servers of a test never share one unless one is the other's standby.
//
// Servers live in /dev/shm where it has room for gigabytes, unless they are Durable or OnDisk, else in the temporary
// directory; what a killed test leaves is removed by the next one.
//
// PostgreSQL refuses to run as root: for root the servers run as user postgres (or nobody), in directories that this user
// can reach. Directories made by testing.T.TempDir are closed to others; TempDir here gives open ones.
package pgtest
