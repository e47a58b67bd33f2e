// Package torture is tests only: it runs the whole program, as a process, against real PostgreSQL servers, breaks things
// around it, and lets a ledger of acknowledged commits decide what must have survived.
//
// PGKEEP_PG names the versions (default: three of the six; "all" for every one), PGKEEP_ROUNDS how often a random round
// is repeated. Every random test prints its seed and takes it back from PGKEEP_SEED.
package torture
