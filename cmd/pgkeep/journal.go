package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/steps"
)

// journalAsk is what the journal is asked for.
type journalAsk struct {
	server string
	since  string
	from   time.Time // what since means
	limit  int
	json   bool
}

func journalCommand(a *app) *cobra.Command {
	var ask journalAsk
	c := &cobra.Command{
		Use: "journal", Short: "Who applied what, when, and how it ended", Args: cobra.NoArgs,
		Long: `Reads the journal that every apply leaves in the repositories of the servers that it touched, newest first: who ran it,
when, every step and how it ended, and the digest of the plan. An apply that is kept in several repositories is shown once.`,
		Example: "  pgkeep journal\n  pgkeep journal --server orders.eu --since 7d\n  pgkeep journal --limit 1 --json",
		RunE:    func(c *cobra.Command, _ []string) error { return a.journal(c.Context(), ask) },
	}
	f := c.Flags()
	f.StringVar(&ask.server, "server", "", "only applies that touched this server")
	f.StringVar(&ask.since, "since", "", "only applies since a moment or for a while: 2026-02-10T00:00:00Z, 7d")
	f.IntVar(&ask.limit, "limit", 20, "how many applies; 0: all")
	f.BoolVar(&ask.json, "json", false, "print JSON")
	a.completeFlag(c, "server", a.servers())
	return c
}

// completeFlag offers words for a flag's value.
func (a *app) completeFlag(c *cobra.Command, flag string, words completion) {
	if err := c.RegisterFlagCompletionFunc(flag, words); err != nil {
		panic(err) // a flag that the lines above do not define
	}
}

// journaled is one apply as the journal has it.
type journaled struct {
	steps.JournalEntry
	KeptIn []string `json:"kept_in"` // labels of the repositories that hold the entry
}

func (a *app) journal(ctx context.Context, ask journalAsk) error {
	spec, err := a.load()
	if err != nil {
		return err
	}
	if ask.server != "" {
		s, err := server(spec, ask.server)
		if err != nil {
			return err
		}
		ask.server = s.Name
	}
	if ask.from, err = a.moment(ask.since); err != nil {
		return err
	}
	entries, failure := readJournals(ctx, spec, ask)
	if ask.limit > 0 && len(entries) > ask.limit {
		entries = entries[:ask.limit]
	}
	if ask.json {
		err = writeJSON(a.out, map[string]any{"version": 1, "entries": entries})
	} else {
		a.drawJournal(entries)
	}
	return errors.Join(err, failure)
}

// moment reads a moment, or a duration before now; the zero time for nothing.
func (a *app) moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := hclspec.ParseDuration(text); err == nil {
		return a.now().Add(-d), nil
	}
	at, err := hclspec.ParseMoment(text, time.Local)
	if err != nil {
		return at, usage("--since wants a moment or a duration: %s", err)
	}
	return at, nil
}

// readJournals reads every repository of this machine. What could not be read of one does not hide the others; the error
// tells of it.
func readJournals(ctx context.Context, spec *hclspec.Spec, ask journalAsk) ([]journaled, error) {
	here, _ := host.Name()
	entries := map[string]*journaled{}
	var failures []error
	for i := range spec.Repositories {
		x := &spec.Repositories[i]
		if !host.IsHere(x.Host, here) {
			continue
		}
		if err := readJournal(ctx, spec, x.Name, ask, entries); err != nil && state.CodeOf(err) != state.CodeAbsent {
			failures = append(failures, fmt.Errorf("%s: %w", x.Address, err))
		}
	}
	out := make([]journaled, 0, len(entries))
	for _, e := range entries {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(x, y journaled) int {
		if c := y.Ended.Compare(x.Ended); c != 0 {
			return c
		}
		return y.Began.Compare(x.Began)
	})
	return out, errors.Join(failures...)
}

func readJournal(ctx context.Context, spec *hclspec.Spec, label string, ask journalAsk, into map[string]*journaled) error {
	r, closed, err := openRepository(ctx, spec, label)
	if err != nil {
		return err
	}
	defer closed()
	keys, err := r.Clusters(ctx)
	if err != nil {
		return fmt.Errorf("list clusters: %w", err)
	}
	for _, key := range keys {
		if ask.server != "" && key.Name != ask.server {
			continue
		}
		n := 0
		for note, err := range r.Cluster(key.Name, key.SystemID).JournalNewestFirst(ctx, ask.from) {
			if err != nil {
				return fmt.Errorf("journal of %s: %w", key.Name, err)
			}
			if err := keep(into, label, note); err != nil {
				return err
			}
			if n++; ask.limit > 0 && n >= ask.limit {
				break
			}
		}
	}
	return nil
}

// keep adds an entry, or the repository to one that another keeps too. The same apply has the same content everywhere.
func keep(into map[string]*journaled, label string, note repository.Note) error {
	id := string(note.Entry)
	if e := into[id]; e != nil {
		if !slices.Contains(e.KeptIn, label) {
			e.KeptIn = append(e.KeptIn, label)
		}
		return nil
	}
	e := &journaled{KeptIn: []string{label}}
	if err := json.Unmarshal(note.Entry, &e.JournalEntry); err != nil {
		return &state.Error{Code: state.CodeCorrupt, Text: "journal entry " + note.Key + " cannot be read", Err: err}
	}
	into[id] = e
	return nil
}

func (a *app) drawJournal(entries []journaled) {
	if len(entries) == 0 {
		fmt.Fprintln(a.out, "The journal is empty.")
		return
	}
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintf(a.out, "%s  %s, in %s, exit code %d\n", plan.Moment(e.Began), e.Who, plan.Span(e.Ended.Sub(e.Began)), e.Exit)
		if e.Digest != "" {
			fmt.Fprintf(a.out, "plan %s\n", e.Digest)
		}
		t := a.newTable()
		for _, s := range e.Steps {
			note := s.Note
			if s.Error != "" {
				note = s.Error
			}
			if s.Code != "" {
				note = "[" + s.Code + "] " + note
			}
			t.AppendRow(table.Row{" ", s.Action + " " + s.ID, string(s.Outcome), strconv.FormatFloat(s.Seconds, 'f', 1, 64) + " s", note})
		}
		fmt.Fprintln(a.out, t.Render())
	}
}
