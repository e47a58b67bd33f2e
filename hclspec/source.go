package hclspec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The bounds of what is read, so that a hostile or broken file costs no more than a second and 256 MiB. Three hundred
// thousand tokens are some two thousand servers written out one by one; for_each has no such bound.
const (
	maxFile    = 512 << 10
	maxSources = 4 << 20
	maxTokens  = 300_000
	maxDepth   = 60
	maxChain   = 300
	maxControl = 60 // template directives %{…} in one file: the parser nests them
)

// sources are the parsed files of one Load.
type sources struct {
	fsys   fs.FS
	files  map[string]*hcl.File
	bytes  int
	tokens int
}

// list finds the files of a directory: configuration, and values that are read unasked, in the order of precedence.
func (s *sources) list(dir string) (config, values []string, diags hcl.Diagnostics) {
	var first []string
	entries, err := fs.ReadDir(s.fsys, dir)
	if err != nil {
		return nil, nil, hcl.Diagnostics{failure("Cannot read the directory", fmt.Sprintf("The configuration is read from %s: %s.", dir, reason(err)), "Name another with --dir (-C).", nil)}
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || e.IsDir() {
			continue
		}
		full := path.Join(dir, name)
		switch plain := strings.TrimSuffix(name, ".json"); {
		case plain == "pgkeep.vars.hcl":
			first = append(first, full)
		case strings.HasSuffix(plain, ".auto.vars.hcl"):
			values = append(values, full)
		case strings.HasSuffix(plain, ".vars.hcl"): // read only when --var-file names it
		case strings.HasSuffix(plain, ".hcl"):
			config = append(config, full)
		}
	}
	values = append(first, values...)
	sort.Strings(config)
	if len(config) == 0 && len(diags) == 0 {
		diags = append(diags, failure("No configuration", fmt.Sprintf("%s has no *.hcl or *.hcl.json file.", directoryName(dir)), "Run pgkeep init, or name the directory with --dir (-C).", nil))
	}
	return config, values, diags
}

// read reads and parses one file. In JSON, schema says which names are blocks; nil: it is a file of values.
func (s *sources) read(name string, schema *block) (hcl.Body, hcl.Diagnostics) {
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, hcl.Diagnostics{failure("Cannot read the file", fmt.Sprintf("%s: %s.", name, reason(err)), "", nil)}
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, hcl.Diagnostics{failure("Cannot read the file", fmt.Sprintf("%s: %s.", name, reason(err)), "", nil)}
	}
	file, diags := s.parse(name, src, schema)
	if diags.HasErrors() {
		return nil, tidy(diags)[:1] // what the parser says after the first error is about its own confusion
	}
	return file.Body, diags
}

func (s *sources) parse(name string, src []byte, schema *block) (*hcl.File, hcl.Diagnostics) {
	if diags := s.boundBytes(name, src); diags.HasErrors() {
		return nil, diags
	}
	if strings.HasSuffix(name, ".json") {
		return s.parseJSON(name, src, schema)
	}
	if diags := s.boundTokens(name, src); diags.HasErrors() {
		return nil, diags
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	s.files[name] = file
	sayMissingQuote(diags)
	return file, diags
}

// sayMissingQuote puts the usual mistake first, where the parser explains how to write a string of several lines.
func sayMissingQuote(diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Summary == "Invalid multi-line string" {
			d.Summary = "Missing quote"
			d.Detail = "The line ends inside a string: its closing \" is missing. If it is to have several lines, write \\n for each break."
		}
	}
}

// expression parses one value given on the command line or in the environment.
func (s *sources) expression(name, src string) (hclsyntax.Expression, hcl.Diagnostics) {
	if diags := append(s.boundBytes(name, []byte(src)), s.boundTokens(name, []byte(src))...); diags.HasErrors() {
		return nil, diags
	}
	s.files[name] = &hcl.File{Bytes: []byte(src)}
	return hclsyntax.ParseExpression([]byte(src), name, hcl.InitialPos)
}

// boundBytes refuses a source that is too big.
func (s *sources) boundBytes(name string, src []byte) hcl.Diagnostics {
	s.bytes += len(src)
	if len(src) > maxFile {
		return tooBig(name, fmt.Sprintf("A file may have %d KiB.", maxFile>>10), nil)
	}
	if s.bytes > maxSources {
		return tooBig(name, fmt.Sprintf("All files together may have %d MiB.", maxSources>>20), nil)
	}
	return nil
}

// boundTokens refuses a source that is too long, too deep or too long a chain, before the recursive parser sees it.
func (s *sources) boundTokens(name string, src []byte) hcl.Diagnostics {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos) // what cannot be lexed is reported by the parser
	s.tokens += len(tokens)
	if s.tokens > maxTokens {
		return tooBig(name, tooManyTokens(), nil)
	}
	if t, what := tooDeep(tokens); what != "" {
		s.files[name] = &hcl.File{Bytes: src}
		return tooBig(name, what, t.Range.Ptr())
	}
	return nil
}

func tooManyTokens() string {
	return fmt.Sprintf("All files together may have %d words and signs. for_each says much in few.", maxTokens)
}

func tooBig(name, what string, at *hcl.Range) hcl.Diagnostics {
	return hcl.Diagnostics{failure("The source is too big", fmt.Sprintf("%s goes beyond what pgkeep reads. %s", name, what), "", at)}
}

// tooDeep finds the token at which nesting, or a chain of operators, goes beyond the bound. The parser and the
// evaluation recurse once for each, and a Go stack that overflows cannot be caught.
func tooDeep(tokens hclsyntax.Tokens) (*hclsyntax.Token, string) {
	levels := []level{{lines: true}}
	control := 0
	for i := range tokens {
		t := &tokens[i]
		here := &levels[len(levels)-1]
		switch t.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenTemplateInterp,
			hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateControl:
			here.chain++
			levels = append(levels, level{lines: t.Type == hclsyntax.TokenOBrace})
			if t.Type == hclsyntax.TokenTemplateControl {
				control++
			}
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenTemplateSeqEnd,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case hclsyntax.TokenComma, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			here.chain = 0
		case hclsyntax.TokenNewline:
			if here.lines {
				here.chain = 0
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenComment, hclsyntax.TokenEqual:
		default:
			here.chain++
		}
		if what := levels[len(levels)-1].beyond(len(levels), control); what != "" {
			return t, what
		}
	}
	return nil, ""
}

// level is one open bracket or quote: how long the chain in it is, and whether a new line begins a new item there.
type level struct {
	chain int
	lines bool
}

func (l level) beyond(depth, control int) string {
	switch {
	case depth > maxDepth:
		return fmt.Sprintf("Brackets and quotes may nest %d deep.", maxDepth)
	case l.chain > maxChain:
		return fmt.Sprintf("One expression may chain %d operators.", maxChain)
	case control > maxControl:
		return fmt.Sprintf("One file may have %d template directives.", maxControl)
	}
	return ""
}

func directoryName(dir string) string {
	if dir == "." {
		return "This directory"
	}
	return dir
}

// reason is the cause of a failure of the file system without its path, which the sentence has already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// failure makes an error without the ceremony.
func failure(summary, detail, hint string, at *hcl.Range) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at}
	if hint != "" {
		d.Extra = Help{Hint: hint}
	}
	return d
}
