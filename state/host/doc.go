// Package host looks at this machine: names, free space, mounts, directories, PostgreSQL's binaries, owners, and the
// receiver processes that a one-shot apply leaves behind.
//
// It knows neither PostgreSQL's protocol nor what a repository is. Everything that only looks takes no lock and changes
// nothing; StartDetached, Stop and Lock are the three that act. Linux only, as pgkeep is.
package host
