// Package hclspec is the language: it turns the *.hcl files of a directory into a Spec, or into diagnostics that quote
// the source, say what is wrong, why, and what to write instead.
//
// # Flow
//
// Load reads and parses the files (source.go), reads values for the variables (variables.go), checks that every name
// that an expression mentions exists (references.go), evaluates locals and for_each on demand (graph.go), decodes each
// block by the schema (schema.go, decode.go), and builds plain Go values from it (one file for each block). Nothing but
// this package knows cty.
//
// # Rules
//
// What is not in the schema is an error, and so is what the schema names as not built yet: nothing is ever ignored.
// One mistake is one error: an expression that failed is unknown from then on, and what depends on it stays silent.
// The clock, the environment and the file system are arguments. Equal files and options give equal Specs.
//
// # Hostile input
//
// Sources are bounded in size and nesting before they are parsed, and the work that expressions may cause is added up
// before it is done (budget.go), so that no configuration takes more than a second or a quarter of a gigabyte.
package hclspec
