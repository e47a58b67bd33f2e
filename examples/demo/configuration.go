// Package demo is the configuration that `pgkeep demo` protects its server with.
package demo

import _ "embed" // for the configuration

// Configuration is pgkeep.hcl. Its variables are work, bindir and owner.
//
//go:embed pgkeep.hcl
var Configuration string
