package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
)

// machine adds facts of this machine: those that decide whether servers, disks and clocks do what is asked of them.
func (g *gathering) machine(ctx context.Context) {
	var out strings.Builder
	name, err := host.Name()
	g.miss("host name", err)
	fmt.Fprintf(&out, "host      %s\nuser      %s\nsystem    %s/%s, %d processors\nclock     %s (%s)\ndirectory %s\n",
		name, host.Who(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), g.now().UTC().Format(time.RFC3339Nano), g.now().Format("MST -07:00"), g.dir)
	for _, f := range []string{"/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/mounts", "/proc/self/limits", "/proc/self/status"} {
		b, err := os.ReadFile(f)
		if g.miss(f, err); err == nil {
			fmt.Fprintf(&out, "\n--- %s\n%s", f, b)
		}
	}
	out.WriteString("\n--- space\n")
	for _, p := range g.places() {
		s, err := host.SpaceAt(p)
		if g.miss("space at "+p, err); err == nil {
			fmt.Fprintf(&out, "%s %+v\n", p, s)
		}
	}
	out.WriteString("\n--- programs of PostgreSQL\n")
	for major := 13; major <= 18; major++ {
		if dir, err := host.FindBinaries(ctx, major); err == nil {
			fmt.Fprintf(&out, "%d %s\n", major, dir)
		}
	}
	out.WriteString("\n--- variables of the environment, names only\n")
	for _, k := range slices.Sorted(maps.Keys(g.env)) {
		fmt.Fprintln(&out, k)
	}
	g.text("machine.txt", "system, memory, mounts, limits, free space, programs of PostgreSQL", out.String())
}

// places are the directories of the configuration that are to be here.
func (g *gathering) places() []string {
	here, _ := host.Name()
	var out []string
	for _, r := range g.spec.Repositories {
		if r.Path != "" && host.IsHere(r.Host, here) {
			out = append(out, r.Path)
		}
	}
	for _, s := range g.spec.Servers {
		if host.IsHere(s.Receiver.Host, here) && !slices.Contains(out, s.Receiver.Spool) {
			out = append(out, s.Receiver.Spool)
		}
	}
	return out
}

// logEnd is how much of a log's end is wanted.
const logEnd = 256 << 10

// log adds the end of a log, from the first whole line on.
func (g *gathering) log(name, path string) {
	f, err := os.Open(path)
	if err != nil {
		g.miss("log "+path, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		g.miss("log "+path, errors.Join(err, errors.New("it is no file")))
		return
	}
	if _, err := f.Seek(max(0, info.Size()-logEnd), io.SeekStart); err != nil {
		g.miss("log "+path, err)
		return
	}
	b, err := io.ReadAll(io.LimitReader(f, logEnd))
	g.miss("log "+path, err)
	text := string(b)
	if info.Size() > logEnd {
		_, text, _ = strings.Cut(text, "\n")
	}
	g.text(name, "the end of "+path, text)
}

// agentLog adds what systemd keeps of the agent, where there is a systemd.
func (g *gathering) agentLog(ctx context.Context) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, "journalctl", "--unit=pgkeep-agent", "--lines=2000", "--no-pager", "--output=short-iso", "--quiet").Output()
	g.miss("log of the agent (journalctl --unit=pgkeep-agent)", err)
	if len(out) > 0 {
		g.text("logs/agent.log", "the end of the agent's log, from journalctl", string(out[max(0, len(out)-4*logEnd):]))
	}
}

// The bounds of what is read of a repository.
const (
	listedObjects  = 2_000_000
	journalEntries = 50
	journalDays    = 90
)

// repositories adds, for each that was seen, how many objects of which kind it holds, and the end of the journals.
func (g *gathering) repositories(ctx context.Context, seen state.Observation) {
	for _, label := range sorted(seen.Repositories) {
		if u := seen.Repositories[label].Unknown; u != nil {
			g.miss("repository "+label, errors.New(u.Because))
			continue
		}
		if err := g.repository(ctx, label); err != nil {
			g.miss("repository "+label, err)
		}
	}
}

func (g *gathering) repository(ctx context.Context, label string) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	r, closeStore, err := openRepository(ctx, g.spec, label)
	if err != nil {
		return err
	}
	defer closeStore()
	kinds, err := countObjects(ctx, r)
	g.miss("list of repository "+label, err)
	g.record("repositories/"+label+"-objects.json", "how many objects of which kind, and their bytes", kinds)
	keys, err := r.Clusters(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		notes := []repository.Note{}
		for n, err := range r.Cluster(k.Name, k.SystemID).Journal(ctx, g.at.AddDate(0, 0, -journalDays)) {
			if err != nil {
				g.miss("journal of "+k.Name+" in "+label, err)
				continue
			}
			notes = append(notes, n)
		}
		notes = notes[max(0, len(notes)-journalEntries):]
		g.record("repositories/"+label+"-"+k.Name+"-"+k.SystemID+"-journal.json", "the last runs of apply, as the journal has them", notes)
	}
	return nil
}

// objects counts the objects of one kind.
type objects struct {
	Objects int       `json:"objects"`
	Bytes   int64     `json:"bytes"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
}

// countObjects counts by the first four parts of the keys: cluster, system identifier and kind.
func countObjects(ctx context.Context, r *repository.Repository) (map[string]objects, error) {
	out := map[string]objects{}
	n := 0
	for info, err := range r.Store().List(ctx, "", "", false) {
		if err != nil {
			return out, err
		}
		if n++; n > listedObjects {
			return out, fmt.Errorf("it has more than %d objects; the counts are of the first", listedObjects)
		}
		parts := strings.Split(info.Key, "/")
		kind := strings.Join(parts[:min(len(parts)-1, 4)], "/") + "/"
		if len(parts) == 1 {
			kind = info.Key
		}
		o := out[kind]
		o.Objects++
		o.Bytes += info.Size
		if o.Oldest.IsZero() || info.Modified.Before(o.Oldest) {
			o.Oldest = info.Modified
		}
		if info.Modified.After(o.Newest) {
			o.Newest = info.Modified
		}
		out[kind] = o
	}
	return out, nil
}
