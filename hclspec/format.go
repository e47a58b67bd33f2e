package hclspec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format lays the source of a *.hcl file out evenly: indentation and the alignment of equals signs, and nothing else; the
// lines stay as many as they were. A source that is no HCL, or goes beyond the bounds of Load, gives diagnostics, with
// the files that WriteDiagnostics needs, and nil.
func Format(name string, src []byte) ([]byte, map[string]*hcl.File, hcl.Diagnostics) {
	s := sources{files: map[string]*hcl.File{}}
	diags := append(s.boundBytes(name, src), s.boundTokens(name, src)...)
	if !diags.HasErrors() {
		s.files[name], diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		return nil, s.files, tidy(diags)[:1]
	}
	return hclwrite.Format(src), s.files, nil
}
