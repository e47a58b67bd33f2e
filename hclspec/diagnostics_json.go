package hclspec

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// DiagnosticsVersion is the version of what DiagnosticsJSON writes. The number before the dot changes when a reader of
// the old form would misread the new one; the one behind it when something is added.
const DiagnosticsVersion = "1.0"

// report is the JSON of all diagnostics of one run.
type report struct {
	FormatVersion string       `json:"format_version"`
	Valid         bool         `json:"valid"`
	ErrorCount    int          `json:"error_count"`
	WarningCount  int          `json:"warning_count"`
	Diagnostics   []diagnostic `json:"diagnostics"`
}

type diagnostic struct {
	Severity string   `json:"severity"` // error | warning
	Code     string   `json:"code,omitempty"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	Range    *extent  `json:"range,omitempty"`
	Snippet  *snippet `json:"snippet,omitempty"`
}

type extent struct {
	Filename string   `json:"filename"`
	Start    position `json:"start"`
	End      position `json:"end"`
}

// position counts lines and columns from 1, columns in characters, and bytes from 0.
type position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// snippet is the source line; the highlighted part is counted in characters of Code.
type snippet struct {
	Context              string `json:"context,omitempty"`
	Code                 string `json:"code"`
	StartLine            int    `json:"start_line"`
	HighlightStartOffset int    `json:"highlight_start_offset"`
	HighlightEndOffset   int    `json:"highlight_end_offset"`
}

// DiagnosticsJSON gives diagnostics as indented JSON for programs: what WriteDiagnostics draws, with the same parts
// masked. Without diagnostics the list is empty and valid is true.
func DiagnosticsJSON(files map[string]*hcl.File, diags hcl.Diagnostics) ([]byte, error) {
	r := report{FormatVersion: DiagnosticsVersion, Valid: !diags.HasErrors(), Diagnostics: []diagnostic{}}
	p := drawing{files: files, masked: maskedRanges(files)}
	for _, d := range diags {
		h := HelpOf(d)
		out := diagnostic{Severity: "error", Code: h.Code, Summary: d.Summary, Detail: d.Detail, Hint: h.Hint}
		if d.Severity == hcl.DiagWarning {
			out.Severity = "warning"
			r.WarningCount++
		} else {
			r.ErrorCount++
		}
		if d.Subject != nil {
			out.Range, out.Snippet = p.extent(*d.Subject), p.snippet(*d.Subject)
		}
		r.Diagnostics = append(r.Diagnostics, out)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write diagnostics as JSON: %w", err)
	}
	return append(b, '\n'), nil
}

func (p *drawing) extent(at hcl.Range) *extent {
	f := p.files[at.Filename]
	return &extent{Filename: at.Filename, Start: positionIn(f, at.Start), End: positionIn(f, at.End)}
}

// positionIn counts the place again from its byte, where the source is at hand.
func positionIn(f *hcl.File, at hcl.Pos) position {
	if f == nil || at.Byte > len(f.Bytes) {
		return position(at)
	}
	line, start := 1, 0
	for i, c := range f.Bytes[:at.Byte] {
		if c == '\n' {
			line, start = line+1, i+1
		}
	}
	return position{Line: line, Column: 1 + utf8.RuneCount(f.Bytes[start:at.Byte]), Byte: at.Byte}
}

func (p *drawing) snippet(at hcl.Range) *snippet {
	f := p.files[at.Filename]
	if f == nil || at.Start.Byte > len(f.Bytes) {
		return nil
	}
	line, from, to := p.lineOf(f.Bytes, at)
	return &snippet{Context: blockName(f, at.Start), Code: line, StartLine: at.Start.Line, HighlightStartOffset: from, HighlightEndOffset: max(to, from+1)}
}
