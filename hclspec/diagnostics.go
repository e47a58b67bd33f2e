package hclspec

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Help is what a diagnostic may carry in Extra: a stable code and the next thing to do.
type Help struct {
	Code string // empty: none
	Hint string // empty: none
}

// HelpOf gives what the diagnostic carries.
func HelpOf(d *hcl.Diagnostic) Help {
	h, _ := d.Extra.(Help)
	return h
}

// minWidth is the narrowest column that text is wrapped to.
const minWidth = 40

// WriteDiagnostics draws diagnostics: the kind of problem, the place, the source line with the place marked, what is
// wrong, and what to do. width is the terminal's; below 40, text is not wrapped. Text of a connection string, and of a
// value of a sensitive variable, is masked in the quoted line.
func WriteDiagnostics(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, width int, color bool) error {
	p := drawing{out: &strings.Builder{}, files: files, width: width, color: color, masked: maskedRanges(files)}
	for n, d := range diags {
		if n > 0 {
			p.out.WriteString("\n")
		}
		p.draw(d)
	}
	_, err := io.WriteString(w, p.out.String())
	return err
}

type drawing struct {
	out    *strings.Builder
	files  map[string]*hcl.File
	width  int
	color  bool
	masked []hcl.Range
}

func (p *drawing) draw(d *hcl.Diagnostic) {
	word, paint := "Error", "31"
	if d.Severity == hcl.DiagWarning {
		word, paint = "Warning", "33"
	}
	h := HelpOf(d)
	code := ""
	if h.Code != "" {
		code = " [" + h.Code + "]"
	}
	fmt.Fprintf(p.out, "%s %s\n", p.paint("1;"+paint, word+code+":"), p.paint("1", d.Summary))
	if d.Subject != nil {
		p.quote(*d.Subject, paint)
	}
	p.out.WriteString("\n")
	p.text(d.Detail)
	if h.Hint != "" {
		p.text(h.Hint)
	}
}

// quote draws the line at the range with a caret under it.
func (p *drawing) quote(at hcl.Range, paint string) {
	f := p.files[at.Filename]
	fmt.Fprintf(p.out, "\n  %s line %d%s:\n", at.Filename, at.Start.Line, blockAt(f, at.Start))
	if f == nil || at.Start.Byte > len(f.Bytes) {
		return
	}
	line, from, to := p.lineOf(f.Bytes, at)
	number := fmt.Sprintf("%5d", at.Start.Line)
	fmt.Fprintf(p.out, "%s %s\n", p.paint("2", number+" |"), line)
	fmt.Fprintf(p.out, "%s %s%s\n", p.paint("2", "      |"), strings.Repeat(" ", from), p.paint(paint, strings.Repeat("^", max(1, to-from))))
}

// lineOf gives the source line, masked and without tabs, and the columns of the range in it. Long lines are cut around
// the range.
func (p *drawing) lineOf(src []byte, at hcl.Range) (line string, from, to int) {
	start := bytes.LastIndexByte(src[:at.Start.Byte], '\n') + 1
	end := len(src)
	if n := bytes.IndexByte(src[start:], '\n'); n >= 0 {
		end = start + n
	}
	const context = 2000 // of a line without end, only what is near is looked at
	start, end = max(start, at.Start.Byte-context), min(end, at.Start.Byte+context)
	masked := p.maskedNear(at.Filename, start, end)
	var b strings.Builder
	columns := 0
	for i, r := range string(src[start:end]) {
		pos := start + i
		if pos == at.Start.Byte {
			from = columns
		}
		if pos < at.End.Byte {
			to = columns + 1
		}
		switch {
		case within(masked, pos):
			r = '*'
		case r == '\t':
			r = ' '
		case r < ' ' || r == 0x7f || checkPlain(string(r)) != nil:
			r = '?'
		}
		b.WriteRune(r)
		columns++
	}
	if at.Start.Byte >= end {
		from, to = columns, columns+1
	}
	return cutLine([]rune(b.String()), from, to, max(p.width, 80)-10)
}

func cutLine(line []rune, from, to, width int) (string, int, int) {
	if len(line) <= width {
		return string(line), from, to
	}
	left := max(0, min(from-width/3, len(line)-width))
	right := min(len(line), left+width)
	return string(line[left:right]), from - left, min(to, right) - left
}

func (p *drawing) maskedNear(file string, start, end int) []hcl.Range {
	var out []hcl.Range
	for _, r := range p.masked {
		if r.Filename == file && r.Start.Byte < end && r.End.Byte > start {
			out = append(out, r)
		}
	}
	return out
}

func within(ranges []hcl.Range, pos int) bool {
	for _, r := range ranges {
		if pos >= r.Start.Byte && pos < r.End.Byte {
			return true
		}
	}
	return false
}

// text writes a paragraph, indented and wrapped.
func (p *drawing) text(s string) {
	for _, line := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		if p.width < minWidth {
			fmt.Fprintf(p.out, "  %s\n", line)
			continue
		}
		column := 0
		for _, word := range strings.Fields(line) {
			n := len([]rune(word))
			switch {
			case column == 0:
				p.out.WriteString("  ")
				column = 2
			case column+1+n > min(p.width, 100):
				p.out.WriteString("\n  ")
				column = 2
			default:
				p.out.WriteString(" ")
				column++
			}
			p.out.WriteString(word)
			column += n
		}
		p.out.WriteString("\n")
	}
}

func (p *drawing) paint(code, s string) string {
	if !p.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// blockAt names the outermost block around a position: `, in server "orders"`.
func blockAt(f *hcl.File, at hcl.Pos) string {
	if name := blockName(f, at); name != "" {
		return ", in " + name
	}
	return ""
}

// blockName gives the outermost block around a position, `server "orders"`; empty: there is none.
func blockName(f *hcl.File, at hcl.Pos) string {
	if f == nil || f.Body == nil {
		return ""
	}
	b := f.OutermostBlockAtPos(at)
	if b == nil {
		return ""
	}
	s := b.Type
	for _, l := range b.Labels {
		s += fmt.Sprintf(" %q", l)
	}
	return s
}

// maskedRanges finds the text that may hold a password: the literal parts of conninfo, and whatever is given to a
// sensitive variable. Where a file could not be parsed, every line that speaks of one.
func maskedRanges(files map[string]*hcl.File) []hcl.Range {
	secret := map[string]bool{}
	var out []hcl.Range
	for _, name := range sortedKeys(files) {
		body, ok := files[name].Body.(*hclsyntax.Body)
		if !ok {
			continue
		}
		for _, b := range body.Blocks {
			if b.Type == "variable" && len(b.Labels) == 1 && b.Body.Attributes["sensitive"] != nil {
				secret[b.Labels[0]] = true
			}
		}
	}
	for _, name := range sortedKeys(files) {
		f := files[name]
		out = append(out, suspicious(name, f.Bytes)...)
		if body, ok := f.Body.(*hclsyntax.Body); ok {
			out = append(out, maskedIn(body, "", secret)...)
		}
	}
	return out
}

func maskedIn(body *hclsyntax.Body, inside string, secret map[string]bool) []hcl.Range {
	var out []hcl.Range
	for _, name := range sortedKeys(body.Attributes) {
		e := body.Attributes[name].Expr
		switch {
		case name == "conninfo", name == "primary_conninfo":
			out = append(out, literals(e)...)
		case inside == "" && secret[name], name == "default" && secret[inside]:
			out = append(out, e.Range())
		}
	}
	for _, b := range body.Blocks {
		label := b.Type
		if b.Type == "variable" && len(b.Labels) == 1 {
			label = b.Labels[0]
		}
		out = append(out, maskedIn(b.Body, label, secret)...)
	}
	return out
}

// literals gives the text between the interpolations of an expression.
func literals(e hclsyntax.Expression) []hcl.Range {
	var out []hcl.Range
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if l, ok := n.(*hclsyntax.LiteralValueExpr); ok {
			out = append(out, l.SrcRange)
		}
		return nil
	})
	return out
}

// suspicious finds the text after a word that announces a secret, by the letters alone.
func suspicious(name string, src []byte) []hcl.Range {
	var out []hcl.Range
	offset := 0
	for line := range strings.SplitAfterSeq(string(src), "\n") {
		if at := announces(lower(line)); at >= 0 {
			out = append(out, hcl.Range{Filename: name, Start: hcl.Pos{Byte: offset + at}, End: hcl.Pos{Byte: offset + endOfText(line, at)}})
		}
		for _, key := range secretKey.FindAllStringIndex(line, -1) {
			out = append(out, hcl.Range{Filename: name, Start: hcl.Pos{Byte: offset + key[0]}, End: hcl.Pos{Byte: offset + key[1]}})
		}
		offset += len(line)
	}
	return out
}

// endOfText finds where the text that begins at a position of the line ends: at an interpolation or a closing quote.
func endOfText(line string, at int) int {
	begin := at + len(line[at:]) - len(strings.TrimLeft(line[at:], " \""))
	for n := begin; n < len(line); n++ {
		if line[n] == '"' && line[n-1] != '\\' || strings.HasPrefix(line[n:], "${") {
			return n
		}
	}
	return len(strings.TrimRight(line, "\r\n"))
}

// lower changes ASCII only: strings.ToLower would change the length of text that is not UTF-8.
func lower(line string) string {
	b := []byte(line)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

var (
	// secretKey is a key of age or of a writer, wherever it strayed.
	secretKey = regexp.MustCompile(`(?i)(?:AGE-SECRET-KEY|PGKEEP-WRITER-KEY)-[0-9A-Z_-]+`)
	// phrase announces one that stands where the path of its file belongs.
	phrase = regexp.MustCompile(`(?:passphrase|password)"?[ \t]*[=:]`)
)

func announces(line string) int {
	if at := phrase.FindStringIndex(line); at != nil {
		return at[1]
	}
	for _, word := range []string{"password=", "password =", "passwd=", "://", "pgpassword", "token=", "secret=", "_key=", "-key=", "sas="} {
		if n := strings.Index(line, word); n >= 0 && (word != "://" || strings.Contains(line[n:], "@")) {
			return n + len(word)
		}
	}
	return -1
}
