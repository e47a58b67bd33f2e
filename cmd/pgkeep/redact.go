package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// redacted stands where something secret stood.
const redacted = "(redacted)"

// shortSecret is how many bytes a known value has at least to be looked for everywhere. A shorter one would tear words
// apart; where it stands after the name of a secret it goes all the same.
const shortSecret = 4

// redactor takes secrets out of text, in two ways: by value, those that it knows, and by form, what looks like one.
type redactor struct {
	values *strings.Replacer
	forms  []form
	names  *regexp.Regexp
}

// form is how a secret is written that nobody knows by value.
type form struct {
	pattern *regexp.Regexp
	with    string
}

// secretNames are parts of the names of settings and variables that hold secrets.
const secretNames = `pass(?:word|wd|phrase)|secret|token|credential|api_?key|access_?key|private_?key|encryption_?key|identity_?key`

// newRedactor knows the secrets given, each also as JSON, HCL and URLs write it.
func newRedactor(known []string) *redactor {
	var pairs []string
	slices.SortFunc(known, func(a, b string) int { return len(b) - len(a) }) // the replacer takes the first that fits
	for _, s := range known {
		if len(s) < shortSecret || s == redacted {
			continue
		}
		for _, v := range spellings(s) {
			pairs = append(pairs, v, redacted)
		}
	}
	name := `(?i)([a-z0-9_-]*(?:` + secretNames + `)[a-z0-9_-]*\\?["']?[ \t]*[=:][ \t]*)`
	return &redactor{
		values: strings.NewReplacer(pairs...),
		names:  regexp.MustCompile(`(?i)^conninfo$|` + secretNames),
		forms: []form{
			{regexp.MustCompile(name + `"(?:[^"\\]|\\.)*"`), `${1}"` + redacted + `"`},
			{regexp.MustCompile(name + `\\"(?:[^"\\]|\\[^"])*\\"`), `${1}\"` + redacted + `\"`},
			{regexp.MustCompile(name + `(?:'(?:[^'\\]|\\.)*'|[^\s"',;}&]+)`), "${1}" + redacted},
			{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@"'?#]*):[^\s"'?#]*@`), "${1}:" + redacted + "@"},
			{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9+/=._~-]{8,}`), "${1} " + redacted},
			{regexp.MustCompile(`(?i:AGE-SECRET-KEY|PGKEEP-WRITER-KEY)-[0-9A-Za-z_-]+|\bA[KS]IA[0-9A-Z]{16}\b`), redacted},
			{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), redacted},
		},
	}
}

// spellings are the ways in which a value can stand in what is collected: as it is, in a conninfo, in a URL, and each of
// these as JSON and logs quote it, also twice.
func spellings(s string) []string {
	plain := []string{s, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s), url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:]}
	if bare, err := url.PathUnescape(s); err == nil && len(bare) >= shortSecret {
		plain = append(plain, bare)
	}
	out := slices.Clone(plain)
	for range 2 {
		var quoted []string
		for _, v := range plain {
			html, err := json.Marshal(v)
			if err == nil {
				quoted = append(quoted, unquoted(string(html)))
			}
			var b bytes.Buffer
			if err := writeJSON(&b, v); err == nil {
				quoted = append(quoted, unquoted(strings.TrimSpace(b.String())))
			}
			quoted = append(quoted, unquoted(strconv.Quote(v)))
		}
		plain = slices.Compact(slices.Sorted(slices.Values(quoted)))
		out = append(out, plain...)
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(out)
}

func unquoted(s string) string { return s[1 : len(s)-1] }

// text takes secrets out of lines of any kind.
func (r *redactor) text(s string) string {
	s = r.values.Replace(s)
	for _, f := range r.forms {
		s = f.pattern.ReplaceAllString(s, f.with)
	}
	return s
}

// json takes secrets out of a JSON document, which stays one.
func (r *redactor) json(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	var out bytes.Buffer
	if err := writeJSON(&out, r.value(v, false)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// value walks a JSON value; hide says that everything in it is secret.
func (r *redactor) value(v any, hide bool) any {
	switch v := v.(type) {
	case string:
		if hide && v != "" {
			return redacted
		}
		return r.text(v)
	case json.Number:
		if hide {
			return redacted
		}
	case []any:
		for i := range v {
			v[i] = r.value(v[i], hide)
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		sensitive := v["sensitive"] == true
		for k, x := range v {
			out[r.text(k)] = r.value(x, hide || r.names.MatchString(k) || sensitive && (k == "default" || k == "value"))
		}
		return out
	}
	return v
}

// hcl takes secrets out of a configuration file: every conninfo, what has the name of a secret, and the values of the
// variables named. A file that cannot be parsed loses every string.
func (r *redactor) hcl(f configFile, sensitive []string) string {
	body, source := bodyOf(f), f.content
	if body == nil {
		return r.text(withoutStrings(f.name, source))
	}
	h := hiding{names: r.names, sensitive: sensitive}
	h.body(body, f.values)
	secret := h.ranges
	slices.SortFunc(secret, func(a, b hcl.Range) int { return a.Start.Byte - b.Start.Byte })
	var out strings.Builder
	at := 0
	for _, s := range secret {
		if s.Start.Byte < at {
			continue
		}
		out.Write(source[at:s.Start.Byte])
		out.WriteString(`"` + redacted + `"`)
		at = s.End.Byte
	}
	out.Write(source[at:])
	return r.text(out.String())
}

// hiding finds the parts of a file that are secret.
type hiding struct {
	names     *regexp.Regexp
	sensitive []string
	ranges    []hcl.Range
}

// body finds them in a body; values says that its attributes are values of variables.
func (h *hiding) body(body *hclsyntax.Body, values bool) {
	for _, a := range body.Attributes {
		if h.names.MatchString(a.Name) || values && slices.Contains(h.sensitive, a.Name) {
			h.ranges = append(h.ranges, a.Expr.Range())
		}
	}
	for _, b := range body.Blocks {
		if b.Type == "variable" && len(b.Labels) == 1 {
			h.variable(b)
			continue
		}
		h.body(b.Body, false)
	}
}

// variable hides the default and the rules of a sensitive variable: both can hold its value.
func (h *hiding) variable(b *hclsyntax.Block) {
	if !slices.Contains(h.sensitive, b.Labels[0]) && !h.names.MatchString(b.Labels[0]) {
		return
	}
	if d := b.Body.Attributes["default"]; d != nil {
		h.ranges = append(h.ranges, d.Expr.Range())
	}
	for _, v := range b.Body.Blocks {
		for _, a := range v.Body.Attributes {
			h.ranges = append(h.ranges, a.Expr.Range())
		}
	}
}

// withoutStrings replaces every string of a file by a mark, and drops its comments.
func withoutStrings(name string, source []byte) string {
	tokens, _ := hclsyntax.LexConfig(source, name, hcl.InitialPos)
	var out strings.Builder
	at := 0
	for _, t := range tokens {
		if t.Range.Start.Byte < at || t.Range.End.Byte > len(source) {
			continue
		}
		out.Write(source[at:t.Range.Start.Byte])
		at = t.Range.End.Byte
		switch t.Type {
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenInvalid, hclsyntax.TokenBadUTF8, hclsyntax.TokenNumberLit:
			out.WriteString(redacted)
		case hclsyntax.TokenComment:
			out.WriteString("# " + redacted + "\n")
		default:
			out.Write(t.Bytes)
		}
	}
	return out.String()
}
