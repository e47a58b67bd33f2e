// Package torture is tests only: it runs the whole program, as a process, against real PostgreSQL servers, breaks things
// around it, and lets a ledger of acknowledged commits decide what must have survived.
//
// PGKEEP_PG names the versions (default: three of the six; "all" for every one), PGKEEP_ROUNDS how often a random round
// is repeated; either of them also makes recoveries under faults as long, and their faults as many, as they are not by
// default: thirty segments, a repository cut for thirty seconds, twenty kills. Every random test prints its seed and takes it back from PGKEEP_SEED.
package torture
