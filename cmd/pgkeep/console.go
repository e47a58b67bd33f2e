package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pgkeep/pgkeep/hclspec"
)

func consoleCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "console", Short: "Evaluate expressions against the configuration", Args: cobra.NoArgs,
		Long: `Evaluates expressions with the variables, locals, repositories and servers of the configuration: on a terminal with a
prompt (Tab completes, Ctrl-D or "exit" ends), else one expression a line from standard input. A sensitive value is
shown as "` + hclspec.SensitiveValue + `". Nothing is asked of servers or repositories.`,
		Example: "  pgkeep console\n  echo 'keys(server.orders)' | pgkeep console",
		RunE: func(_ *cobra.Command, _ []string) error {
			o, err := a.loadOptions()
			if err != nil {
				return err
			}
			console, files, diags := hclspec.NewConsole(paths{}, filepath.ToSlash(a.dir), o)
			if err := a.drawn(files, diags); err != nil && !errors.As(err, new(exit)) {
				return err
			}
			failed := diags.HasErrors()
			terminal, isFile := a.in.(*os.File)
			if isFile && a.inTerminal && a.outTerminal {
				return a.converse(console, terminal)
			}
			return a.answerLines(console, failed)
		},
	}
}

// answerLines evaluates each line of standard input; exit code 1 when one of them has no value.
func (a *app) answerLines(console *hclspec.Console, failed bool) error {
	lines := bufio.NewScanner(a.in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			ok, err := a.answer(console, line, a.out, a.err)
			if err != nil {
				return err
			}
			failed = failed || !ok
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read expressions: %w", err)
	}
	if failed {
		return exit{code: exitError}
	}
	return nil
}

// answer evaluates one expression; false: it has no value, and why was drawn.
func (a *app) answer(console *hclspec.Console, line string, out, problems io.Writer) (bool, error) {
	value, files, diags := console.Evaluate(line)
	if len(diags) > 0 {
		return false, hclspec.WriteDiagnostics(problems, files, diags, a.width, a.color(a.errTerminal))
	}
	_, err := fmt.Fprintln(out, value)
	return true, err
}

// converse reads expressions from a terminal, with editing, history and completion.
func (a *app) converse(console *hclspec.Console, terminal *os.File) error {
	before, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(terminal.Fd()), before) }()
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{terminal, a.out}, "> ")
	t.AutoCompleteCallback = completing(console.Names())
	for {
		line, err := t.ReadLine()
		if errors.Is(err, io.EOF) || strings.TrimSpace(line) == "exit" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read expression: %w", err)
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if _, err := a.answer(console, line, t, t); err != nil {
			return err
		}
	}
}

// completing extends the word before the cursor as far as all names that begin so agree.
func completing(names []string) func(line string, pos int, key rune) (string, int, bool) {
	return func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		start := strings.LastIndexFunc(line[:pos], func(r rune) bool { return strings.ContainsRune(" ([{,+-*/!?:=\"", r) }) + 1
		word, common := line[start:pos], ""
		for _, n := range names {
			switch {
			case !strings.HasPrefix(n, word) || word == "":
			case common == "":
				common = n
			default:
				common = commonPrefix(common, n)
			}
		}
		if len(common) <= len(word) {
			return line, pos, true
		}
		return line[:start] + common + line[pos:], start + len(common), true
	}
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
