package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	example "github.com/pgkeep/pgkeep/examples/demo"
)

// Options say how the demo is played.
type Options struct {
	Program string    // absolute path of pgkeep
	BinDir  string    // of PostgreSQL's programs; empty: found
	Version int       // major version to look for; 0: the newest that is there
	Keep    bool      // leave the directory, with the server stopped
	Bold    bool      // headings in bold
	Out     io.Writer // where it narrates
}

// How much the shop sells.
const (
	firstOrders = 100_000
	clerks      = 2
	busyFor     = 4 * time.Second
)

// Play plays the whole demo. It ends early with ctx. Whatever happens, what it started is stopped and what it wrote is
// removed, unless Keep is set; an error says so when that did not succeed. Nothing lost is nil.
func Play(ctx context.Context, o Options) (err error) {
	began := time.Now()
	bindir, major, err := findPrograms(ctx, o.BinDir, o.Version)
	if err != nil {
		return err
	}
	owner, err := serverUser()
	if err != nil {
		return err
	}
	p, err := newPlace(o, bindir, owner)
	if p != nil {
		defer func() { err = errors.Join(err, finish(ctx, p, o.Keep)) }()
	}
	if err != nil {
		return err
	}
	s := &story{place: p, shop: &shop{socket: filepath.Join(p.dir, "socket"), port: 5432}, bold: o.Bold}
	s.pgbench = findPgbench(ctx, bindir)
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error { return s.opening(ctx, major) }, s.protect, s.business, s.accident, s.recover,
	} {
		err := part(ctx)
		if stopped := context.Cause(ctx); stopped != nil {
			return stopped // what was cut short has nothing more to say
		}
		if err != nil {
			return err
		}
	}
	s.say("Done in %d seconds", int(time.Since(began).Seconds()))
	return nil
}

// finish cleans up, or says what is left and how to remove it.
func finish(ctx context.Context, p *place, keep bool) error {
	if !keep {
		fmt.Fprintf(p.out, "Stopping the servers and the receiver, removing %s.\n", p.dir)
		return p.clean(ctx)
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer done()
	err := errors.Join(p.stop(ctx, p.restored()), p.stopReceiver(ctx), p.stop(ctx, p.data()))
	fmt.Fprintf(p.out, "Everything is stopped and left in %s.\n→ look: pgkeep --dir %s backups list; remove: rm -r %s\n", p.dir, p.dir, p.dir)
	return err
}

// story is what is told.
type story struct {
	*place
	*shop
	bold    bool
	pgbench string
	history int64  // transactions of pgbench
	before  string // the moment before the accident
}

// say prints a heading.
func (s *story) say(format string, args ...any) {
	line := "== " + fmt.Sprintf(format, args...)
	if s.bold {
		line = "\x1b[1m" + line + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "\n%s\n", line)
}

func (s *story) note(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// run shows a command of pgkeep and runs it; what it prints before the line that begins with from is left out.
func (s *story) run(ctx context.Context, from string, args ...string) error {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = a
		if strings.ContainsAny(a, " \"'") {
			shown[i] = strconv.Quote(a)
		}
	}
	s.note("$ pgkeep %s", strings.Join(shown, " "))
	cmd := s.asOwner(ctx, s.place.pgkeep, args...) // its directory is the demo's
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if from != "" {
		w := &later{out: s.out, from: from}
		cmd.Stdout, cmd.Stderr = w, w
		defer w.flush()
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run pgkeep %s: %w", args[0], err)
	}
	return nil
}

// opening makes the server and its shop.
func (s *story) opening(ctx context.Context, major int) error {
	s.say("A PostgreSQL %d with a shop in it", major)
	s.note("It is made for this, in %s, and gone at the end.\nThe programs are those of %s, run as user %s.", s.dir, s.bindir, s.owner.Name)
	if err := s.ownProgram(ctx); err != nil {
		return err
	}
	if err := s.quietly(s.asOwner(ctx, filepath.Join(s.bindir, "initdb"), "-D", s.data(), "-U", "postgres", "-A", "trust", "-N", "--data-checksums", "-E", "UTF8", "--locale=C")); err != nil {
		return err
	}
	if err := s.start(ctx, s.data(), 5432); err != nil {
		return err
	}
	if err := s.open(ctx, firstOrders); err != nil {
		return err
	}
	s.note("%d orders are in it.", s.acked.Load())
	return nil
}

// protect writes the configuration and lets pgkeep do what it asks for.
func (s *story) protect(ctx context.Context) error {
	s.say("What must be true")
	values := fmt.Sprintf("work   = %q\nbindir = %q\nowner  = %q\n", s.dir, s.bindir, s.owner.Name)
	if err := errors.Join(s.write("pgkeep.hcl", example.Configuration), s.write("pgkeep.vars.hcl", values)); err != nil {
		return err
	}
	s.note("$ cat pgkeep.hcl pgkeep.vars.hcl\n%s\n%s", example.Configuration, values)
	s.say("What would be done, and why")
	if err := s.run(ctx, "", "plan"); err != nil {
		return err
	}
	s.say("Do it (it shows the plan once more, left out here)")
	if err := s.run(ctx, "Plan:", "apply", "--auto-approve"); err != nil {
		return err
	}
	s.say("And again: nothing is left to do")
	return s.run(ctx, "", "plan")
}

// business writes: with pgbench where there is one, and always orders of our own, whose commits are counted.
func (s *story) business(ctx context.Context) error {
	s.say("A day's work in %d seconds", int(busyFor.Seconds()))
	if s.pgbench == "" {
		s.note("This machine has no pgbench; the shop alone is busy enough.")
		if err := s.sell(ctx, clerks+2, busyFor); err != nil {
			return err
		}
	} else if err := s.withPgbench(ctx); err != nil {
		return err
	}
	s.note("The shop has %d orders now, each acknowledged by a commit.", s.acked.Load())
	s.say("What could be restored now, and what would be lost")
	return s.run(ctx, "", "status")
}

func (s *story) withPgbench(ctx context.Context) error {
	at := []string{"-h", s.socket, "-p", "5432", "-U", "postgres"}
	bench := func(args ...string) error {
		return s.quietly(s.asOwner(ctx, s.pgbench, append(append(args, at...), "postgres")...))
	}
	if err := bench("-i", "-q", "-s", "2"); err != nil {
		return err
	}
	sold := make(chan error, 1)
	go func() { sold <- s.sell(ctx, clerks, busyFor) }()
	err := bench("-n", "-c", "2", "-j", "2", "-T", strconv.Itoa(int(busyFor.Seconds())))
	if err = errors.Join(err, <-sold); err != nil {
		return err
	}
	if s.history, err = s.number(ctx, "select count(*) from pgbench_history"); err != nil {
		return err
	}
	s.note("pgbench ran %d transactions beside it.", s.history)
	return nil
}

// accident drops the table, after the moment to come back to.
func (s *story) accident(ctx context.Context) error {
	s.say("And then somebody drops the table")
	var err error
	if s.before, err = s.ask(ctx, `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`); err != nil {
		return err
	}
	if _, err = s.ask(ctx, "select pg_sleep(0.2)"); err != nil { // so that the drop is later, whatever the clock's grain
		return err
	}
	if _, err = s.ask(ctx, "drop table orders"); err != nil {
		return err
	}
	s.note("shop=# drop table orders;\nDROP TABLE\nshop=# select count(*) from orders;")
	if _, err = s.ask(ctx, "select count(*) from orders"); err == nil {
		return errors.New("drop the table: it is still there")
	}
	s.note("ERROR:  relation \"orders\" does not exist")
	return nil
}

// recover brings a copy of the server back to the moment before, and counts.
func (s *story) recover(ctx context.Context) error {
	s.say("Back to %s, the moment before", s.before)
	if err := s.run(ctx, "", "recover", "before_drop", "--to-time", s.before, "--yes"); err != nil {
		return err
	}
	s.say("The copy starts, beside the server")
	if err := s.start(ctx, s.restored(), 5433); err != nil {
		return err
	}
	copied := &shop{socket: s.socket, port: 5433}
	if err := copied.promoted(ctx); err != nil {
		return err
	}
	found, err := copied.number(ctx, "select count(*) from orders")
	if err != nil {
		return err
	}
	s.note("%d of %d orders are in it, the last of the day among them.", found, s.acked.Load())
	if found != s.acked.Load() {
		return fmt.Errorf("recover the orders: %d were acknowledged, and the copy has %d", s.acked.Load(), found)
	}
	if s.pgbench != "" {
		n, err := copied.number(ctx, "select count(*) from pgbench_history")
		if err != nil {
			return err
		}
		if n != s.history {
			return fmt.Errorf("recover pgbench's transactions: %d were committed, and the copy has %d", s.history, n)
		}
		s.note("%d of %d transactions of pgbench, too.", n, s.history)
	}
	s.note("Nothing was lost.")
	return nil
}

// later leaves out what comes before a line.
type later struct {
	out  io.Writer
	from string
	held bytes.Buffer
	open bool
}

// Write passes on what comes from that line on.
func (l *later) Write(b []byte) (int, error) {
	if l.open {
		return l.out.Write(b)
	}
	l.held.Write(b)
	text := "\n" + l.held.String()
	if i := strings.Index(text, "\n"+l.from); i >= 0 {
		l.open = true
		_, err := io.WriteString(l.out, text[i+1:])
		return len(b), err
	}
	return len(b), nil
}

// flush passes on everything when the line never came: it was something else that had to be said.
func (l *later) flush() {
	if !l.open {
		_, _ = l.out.Write(l.held.Bytes())
	}
}
