// Package keyfile brings the keys that a configuration names to where they are used: it reads identity files, writer keys and passphrases,
// and runs the commands (of a KMS, of Vault) that print them. Package seal does everything else with them and touches no disk.
//
// A file with a secret is refused unless its owner alone can read it. A command is a program with its arguments, never a line for a shell;
// what it prints and how long it takes are bounded, and neither what it prints nor what it complains of is ever shown.
package keyfile
