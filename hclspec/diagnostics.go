package hclspec

import (
	"io"

	"github.com/hashicorp/hcl/v2"
)

// Help is what a diagnostic may carry in Extra: a stable code and the next thing to do.
type Help struct {
	Code string // empty: none
	Hint string // empty: none
}

// WriteDiagnostics draws diagnostics with their source lines, a caret and the hint.
func WriteDiagnostics(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, width int, color bool) error {
	return nil
}
