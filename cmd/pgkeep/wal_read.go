package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

// walAsk says whose WAL is read, and of when.
type walAsk struct {
	printed
	server, repository string
	from, to           string
}

func (ask *walAsk) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&ask.server, "server", "", "stored name of the server; not needed where there is one")
	f.StringVar(&ask.repository, "repository", "", "repository to read from; by default the one that reaches furthest")
	f.StringVar(&ask.from, "from", "7d", "commits since a moment, or a duration before now")
	f.StringVar(&ask.to, "to", "", "commits until a moment, or a duration before now")
	ask.printed.flag(c, "what was found")
}

// window gives the bounds of time.
func (a *app) window(ask walAsk) (from, to time.Time, err error) {
	for _, b := range []struct {
		flag, text string
		at         *time.Time
	}{{"--from", ask.from, &from}, {"--to", ask.to, &to}} {
		if b.text == "" {
			continue
		}
		if d, err := hclspec.ParseDuration(b.text); err == nil {
			*b.at = a.now().Add(-d)
			continue
		}
		if *b.at, err = hclspec.ParseMoment(b.text, time.Local); err != nil {
			return from, to, usage("%s wants a moment or a duration: %s", b.flag, err)
		}
	}
	if !to.IsZero() && to.Before(from) {
		return from, to, usage("--to is before --from")
	}
	return from, to, nil
}

// openedWAL is one cluster's WAL in one repository.
type openedWAL struct {
	spec    *hclspec.Spec
	held    heldCluster
	cluster *repository.Cluster
}

// openWAL opens the repository that reaches furthest of those that were seen. WAL that is still on its way is brought there
// first, unless the end of the time that is asked for is named: an accident is mostly just a minute old.
func (a *app) openWAL(ctx context.Context, ask walAsk) (openedWAL, func(), error) {
	spec, err := a.load()
	if err != nil {
		return openedWAL{}, nil, err
	}
	if ask.server == "" && len(spec.Servers) == 1 {
		ask.server = spec.Servers[0].Name
	}
	if ask.server == "" {
		return openedWAL{}, nil, usage("--server says whose WAL is meant")
	}
	if s, err := server(spec, ask.server); err == nil { // an address is as good; a server that is not configured may still be held
		ask.server = s.Name
	}
	if ask.to == "" {
		aside := *a
		aside.out = a.err // what is found is for programs too
		if err := aside.pushFirst(ctx, spec, hclspec.Recovery{Server: ask.server}, true); err != nil {
			return openedWAL{}, nil, err
		}
	}
	all, err := a.clusters(ctx, []string{ask.server})
	if err != nil && len(all) == 0 {
		return openedWAL{}, nil, err
	}
	held := slices.DeleteFunc(all, func(h heldCluster) bool {
		return len(h.Cluster.WAL) == 0 || ask.repository != "" && ask.repository != h.Repository
	})
	if len(held) == 0 {
		return openedWAL{}, nil, &state.Error{Code: state.CodeAbsent, Text: "no WAL of " + ask.server + " is archived", Hint: "pgkeep wal list"}
	}
	best := slices.MaxFunc(held, func(a, b heldCluster) int { return reach(a.Cluster).Compare(reach(b.Cluster)) })
	repo, closeStore, err := openRepository(ctx, spec, best.Repository)
	if err != nil {
		return openedWAL{}, nil, err
	}
	return openedWAL{spec: spec, held: best, cluster: repo.Cluster(best.Cluster.Name, best.Cluster.SystemID)}, closeStore, nil
}

// reach is the time of the newest commit that a cluster's WAL holds.
func reach(c state.Cluster) time.Time {
	var newest time.Time
	for _, r := range c.WAL {
		if r.LastCommit.After(newest) {
			newest = r.LastCommit
		}
	}
	return newest
}

func walCommitsCommand(a *app) *cobra.Command {
	var ask walAsk
	limit := 0
	c := &cobra.Command{
		Use: "commits", Short: "List the transactions that committed, in the order of the WAL", Args: cobra.NoArgs,
		Long:    "One line is a commit: recovery goes through them in this order, whatever their times say.",
		Example: "  pgkeep wal commits --server orders --from 10m\n  pgkeep wal commits --server orders --from 2026-02-10T21:00:00Z --to 2026-02-10T21:20:00Z --json",
		RunE: func(c *cobra.Command, _ []string) error {
			from, to, err := a.window(ask)
			if err != nil {
				return err
			}
			w, closeStore, err := a.openWAL(c.Context(), ask)
			if err != nil {
				return err
			}
			defer closeStore()
			return a.listCommits(c.Context(), observe.MomentOptions{
				Cluster: w.held.Cluster, Archive: observe.ArchiveOf(w.cluster), From: from, To: to, Kinds: []state.MomentKind{state.MomentTransaction},
			}, commitList{limit: limit, json: ask.json})
		},
	}
	ask.flags(c)
	c.Flags().IntVar(&limit, "limit", 0, "end after so many; 0: all")
	c.Flags().Lookup("json").Usage = "print one JSON object a line; fields are only ever added"
	return c
}

type commitList struct {
	limit int
	json  bool
}

// errEnough ends a list that has reached its limit.
var errEnough = errors.New("the list has reached its limit")

// listCommits prints commits while they are read: a list of millions is never held.
func (a *app) listCommits(ctx context.Context, o observe.MomentOptions, l commitList) error {
	n := 0
	_, err := observe.Moments(ctx, o, func(m state.Moment) error {
		if n++; l.limit > 0 && n > l.limit {
			return errEnough
		}
		if l.json {
			return json.NewEncoder(a.out).Encode(state.Commit{XID: m.XID, LSN: m.LSN, Time: m.Time})
		}
		_, err := fmt.Fprintf(a.out, "%s  %s  %d\n", m.Time.UTC().Format("2006-01-02 15:04:05.000000 UTC"), m.LSN, m.XID)
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && n == 0 && !l.json {
		fmt.Fprintln(a.out, "No transaction committed then.")
	}
	return err
}

// shownSegment is what `wal show` prints.
type shownSegment struct {
	Segment    string      `json:"segment"`
	Repository string      `json:"repository"`
	From       wal.LSN     `json:"from"`
	Summary    wal.Summary `json:"summary"`
	Damage     string      `json:"damage,omitempty"`
}

func walShowCommand(a *app) *cobra.Command {
	var ask walAsk
	c := &cobra.Command{
		Use: "show SEGMENT", Short: "Show what one archived segment holds", Args: cobra.ExactArgs(1),
		Long:    "Reads the whole segment, or as much of an unfinished one as was archived, and checks every record of it.",
		Example: "  pgkeep wal show --server orders 000000010000000000000042",
		RunE: func(c *cobra.Command, args []string) error {
			w, closeStore, err := a.openWAL(c.Context(), ask)
			if err != nil {
				return err
			}
			defer closeStore()
			return a.showSegment(c.Context(), w, args[0], ask.printed)
		},
	}
	ask.flags(c)
	for _, unused := range []string{"from", "to"} {
		_ = c.Flags().MarkHidden(unused)
	}
	return c
}

func (a *app) showSegment(ctx context.Context, w openedWAL, name string, p printed) error {
	z := w.held.Cluster.SegmentSize
	seg, err := wal.ParseSegmentName(name, z)
	if err != nil {
		return usage("%s", err)
	}
	system, err := strconv.ParseUint(w.held.Cluster.SystemID, 10, 64)
	if err != nil {
		return fmt.Errorf("read system identifier: %w", err)
	}
	r, err := observe.ArchiveOf(w.cluster).Segment(ctx, seg)
	if errors.Is(err, store.ErrNotExist) {
		return &state.Error{
			Code: state.CodeAbsent, Text: fmt.Sprintf("segment %s of %s is not in repository %s", seg.Name(z), w.held.Cluster.Name, w.held.Repository),
			Hint: "pgkeep wal list " + w.held.Cluster.Name,
		}
	}
	if err != nil {
		return fmt.Errorf("open segment %s in repository %s: %w", name, w.held.Repository, err)
	}
	defer r.Close()
	out := shownSegment{Segment: seg.Name(z), Repository: w.held.Repository, From: seg.Start(z)}
	scanner := wal.NewScanner(z, system, seg.Timeline)
	scanner.Follow(wal.FollowOptions{})
	out.Summary, err = scanner.Segment(seg, r, nil)
	var damaged *wal.CorruptError
	if errors.As(err, &damaged) {
		out.Damage, err = damaged.Error(), nil
	}
	if err != nil {
		return err
	}
	if err := p.show(a, out, func() { a.drawSegment(out, seg.End(z)) }); err != nil || out.Damage == "" {
		return err
	}
	return exit{code: exitCheck}
}

func (a *app) drawSegment(x shownSegment, end wal.LSN) {
	s := x.Summary
	fmt.Fprintf(a.out, "Segment %s in repository %s: %s to %s\n", x.Segment, x.Repository, x.From, end)
	switch {
	case x.Damage != "":
		fmt.Fprintf(a.out, "  DAMAGED: %s\n  → pgkeep check, then look at the other repositories and the server's pg_wal\n", x.Damage)
	case s.End < end:
		fmt.Fprintf(a.out, "  unfinished: WAL up to %s is archived\n", s.End)
	default:
		fmt.Fprintln(a.out, "  whole: every record's checksum is good")
	}
	fmt.Fprintf(a.out, "  records from %s to %s\n", position(s.First), position(s.Last))
	fmt.Fprintf(a.out, "  %d commits, %d aborts", s.Commits, s.Aborts)
	if s.Commits > 0 {
		fmt.Fprintf(a.out, "; commits from %s to %s", plan.Moment(s.MinCommit), plan.Moment(s.MaxCommit))
	}
	if s.MaxXID != 0 {
		fmt.Fprintf(a.out, "; transactions %d to %d", s.MinXID, s.MaxXID)
	}
	fmt.Fprintln(a.out)
	if n := s.Images; n.Plain+n.PGLZ+n.LZ4+n.Zstd > 0 {
		fmt.Fprintf(a.out, "  %d full-page images of %s: %d not compressed, %d pglz, %d lz4, %d zstd\n",
			n.Plain+n.PGLZ+n.LZ4+n.Zstd, plan.Size(n.Bytes), n.Plain, n.PGLZ, n.LZ4, n.Zstd)
	}
	for _, p := range s.RestorePoints {
		fmt.Fprintf(a.out, "  restore point %q at %s, %s\n", p.Name, p.LSN, plan.Moment(p.Time))
	}
	a.drawTransactions(s)
	if s.Switched {
		fmt.Fprintln(a.out, "  the rest of the segment is padding after a switch")
	}
}

// drawTransactions prints what transactions did that ended in a segment, as far as its summary tells.
func (a *app) drawTransactions(s wal.Summary) {
	for _, p := range s.Prepared {
		word := map[string]string{"prepare": "was prepared", "commit": "was committed after it was prepared", "abort": "was rolled back after it was prepared"}[p.Kind]
		fmt.Fprintf(a.out, "  transaction %d %s at %s, %s", p.XID, word, p.LSN, plan.Moment(p.Time))
		if p.GID != "" {
			fmt.Fprintf(a.out, ": %q", p.GID)
		}
		fmt.Fprintln(a.out)
	}
	if more := s.PreparedCount - len(s.Prepared); more > 0 {
		fmt.Fprintf(a.out, "  and %d more records about prepared transactions\n", more)
	}
	for _, d := range s.Deeds {
		word := map[wal.DeedKind]string{
			wal.DeedDrop: "dropped %d relations", wal.DeedTruncate: "truncated %d relations", wal.DeedReplace: "replaced the files of %d relations",
			wal.DeedDropDatabase: "dropped %d database", wal.DeedDelete: "deleted many rows of %d relations",
		}[d.Kind]
		fmt.Fprintf(a.out, "  transaction %d "+word+", committed at %s, %s\n", d.XID, len(d.Relations)+d.Others, d.LSN, plan.Moment(d.Time))
	}
	if len(s.Deeds) > 0 {
		fmt.Fprintln(a.out, "  → pgkeep wal find    # with names, and the command that recovers to just before")
	}
}
