package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/wal"
)

const mib = wal.SegmentSize(1 << 20)

// fake is a repository whose answers a test chooses. What it does not hold is absent, unless it is down.
type fake struct {
	segments  map[wal.Segment][]byte
	partials  map[wal.Segment][]byte
	histories map[wal.Timeline]string
	down      func() error // nil, or what every call gives
}

var errDown = errors.New("the repository does not answer")

func (f *fake) failure() error {
	if f.down != nil {
		return f.down()
	}
	return nil
}

func (f *fake) segment(_ context.Context, seg wal.Segment) (io.ReadCloser, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	b, ok := f.segments[seg]
	if !ok {
		return nil, fmt.Errorf("segment: %w", store.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (f *fake) partial(_ context.Context, seg wal.Segment) (io.ReadCloser, wal.LSN, error) {
	if err := f.failure(); err != nil {
		return nil, 0, err
	}
	b, ok := f.partials[seg]
	if !ok {
		return nil, 0, fmt.Errorf("partial: %w", store.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(b)), seg.Start(mib) + wal.LSN(len(b)), nil
}

func (f *fake) history(_ context.Context, t wal.Timeline) ([]byte, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	h, ok := f.histories[t]
	if !ok {
		return nil, fmt.Errorf("history: %w", store.ErrNotExist)
	}
	return []byte(h), nil
}

func seg(t wal.Timeline, n uint64) wal.Segment { return wal.Segment{Timeline: t, Number: n} }

func full(c byte) []byte { return bytes.Repeat([]byte{c}, int(mib)) }

// asked is one call of wal-get on a route of segments 3 to 6 of timeline 1 and 6 to 7.5 of timeline 2.
type asked struct {
	t       *testing.T
	into    string
	sources []*fake
	broken  []error
	cutAt   wal.LSN
	standby bool
	waiting func(error)
}

func newAsked(t *testing.T, sources ...*fake) *asked {
	return &asked{t: t, into: filepath.Join(t.TempDir(), "RECOVERYXLOG"), sources: sources}
}

func (a *asked) route() *routeFile {
	at := func(n float64) wal.LSN { return wal.LSN(n * float64(mib)) }
	return &routeFile{
		Version: 1, Server: "orders", SystemID: "42", SegmentSize: mib, Timeline: 2, CutAt: a.cutAt, WaitSeconds: 60, Standby: a.standby,
		Path: []wal.Range{{Timeline: 1, From: at(3.25), To: at(6)}, {Timeline: 2, From: at(6), To: at(7.5)}},
	}
}

func (a *asked) get(name string) (int, error) {
	a.t.Helper()
	b, err := json.Marshal(a.route())
	check(a.t, err)
	path := filepath.Join(a.t.TempDir(), "route.json")
	check(a.t, os.WriteFile(path, b, 0o600))
	return walGet(a.t.Context(), WALGetOptions{Route: path, Name: name, Into: a.into, Waiting: a.waiting}, func(f *routeFile, _ context.Context) *server {
		s := &server{route: f, broken: a.broken}
		for _, x := range a.sources {
			s.sources = append(s.sources, x)
		}
		return s
	})
}

func (a *asked) want(name string, want int) {
	a.t.Helper()
	got, err := a.get(name)
	if got != want {
		a.t.Errorf("%s: exit %d, not %d: %v", name, got, want, err)
	}
	if (got == ExitFailed) != (err != nil) {
		a.t.Errorf("%s: exit %d with error %v", name, got, err)
	}
	if _, err := os.Stat(a.into); (err == nil) != (got == ExitGot) {
		a.t.Errorf("%s: exit %d, and the file: %v", name, got, err)
	}
}

func TestWALGetCodes(t *testing.T) {
	good := func() *fake {
		return &fake{
			segments:  map[wal.Segment][]byte{seg(1, 3): full('a'), seg(1, 2): full('b'), seg(1, 6): full('c')},
			partials:  map[wal.Segment][]byte{seg(2, 7): full('d')[:mib/2], seg(2, 6): full('e')[:mib/2]},
			histories: map[wal.Timeline]string{2: "1\t0/600000\tx\n", 9: "1\t0/600000\tx\n"},
		}
	}
	for _, c := range []struct {
		name string
		file string
		want int
		seen *fake
	}{
		{"in the route", seg(1, 3).Name(mib), ExitGot, good()},
		{"before the route", seg(1, 2).Name(mib), ExitAbsent, good()},
		{"of the parent, behind the switch", seg(1, 6).Name(mib), ExitAbsent, good()},
		{"behind the end", seg(2, 8).Name(mib), ExitAbsent, good()},
		{"a partial that is long enough", seg(2, 7).Name(mib), ExitGot, good()},
		{"a partial that is too short", seg(2, 6).Name(mib), ExitFailed, good()},
		{"missing in the route", seg(1, 4).Name(mib), ExitFailed, good()},
		{"the target's history", "00000002.history", ExitGot, good()},
		{"the target's history is missing", "00000002.history", ExitFailed, &fake{}},
		{"a higher history that exists", "00000009.history", ExitGot, good()},
		{"a higher history that does not", "00000003.history", ExitAbsent, good()},
		{"a broken history", "00000002.history", ExitFailed, &fake{histories: map[wal.Timeline]string{2: "garbage"}}},
		{"down, a segment", seg(1, 3).Name(mib), ExitFailed, &fake{down: func() error { return errDown }}},
		{"down, a history", "00000003.history", ExitFailed, &fake{down: func() error { return errDown }}},
		{"too short a segment", seg(1, 3).Name(mib), ExitFailed, &fake{segments: map[wal.Segment][]byte{seg(1, 3): full('a')[:100]}}},
		{"a backup history file", seg(1, 3).Name(mib) + ".00000028.backup", ExitAbsent, good()},
		{"nonsense", "nonsense", ExitFailed, good()},
		{"no history", "2.history", ExitFailed, good()},
		{"a path", "../" + seg(1, 3).Name(mib), ExitFailed, good()},
		{"empty", "", ExitFailed, good()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newAsked(t, c.seen).want(c.file, c.want) })
		})
	}
}

func TestWALGetAsksEveryRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &fake{down: func() error { return errDown }}
		has := &fake{segments: map[wal.Segment][]byte{seg(1, 3): full('a')}, histories: map[wal.Timeline]string{5: "1\t0/600000\tx\n"}}
		newAsked(t, down, has).want(seg(1, 3).Name(mib), ExitGot)
		newAsked(t, down, has).want("00000005.history", ExitGot)
		newAsked(t, &fake{}, has).want("00000005.history", ExitGot)
		newAsked(t, down, &fake{}).want("00000003.history", ExitFailed) // one of two has not answered
		broken := newAsked(t, &fake{})
		broken.broken = []error{errDown}
		broken.want("00000003.history", ExitFailed)
		short := &fake{partials: map[wal.Segment][]byte{seg(2, 7): full('d')[:100]}}
		long := &fake{partials: map[wal.Segment][]byte{seg(2, 7): full('d')[:mib/2]}}
		newAsked(t, short, long).want(seg(2, 7).Name(mib), ExitGot)
	})
}

// TestWALGetWaits cuts the repository for half a minute: PostgreSQL gets its segment, and never a wrong answer.
func TestWALGetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Second)
		r := &fake{segments: map[wal.Segment][]byte{seg(1, 3): full('a')}, down: func() error {
			if time.Now().Before(back) {
				return errDown
			}
			return nil
		}}
		newAsked(t, r).want(seg(1, 3).Name(mib), ExitGot)
		if waited := time.Until(back); waited > 0 || waited < -2*retryAtMost {
			t.Errorf("it came back %s ago", -waited)
		}
	})
}

func TestWALGetGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		newAsked(t, &fake{}).want(seg(1, 3).Name(mib), ExitFailed)
		if waited := time.Since(began); waited < 40*time.Second || waited > 61*time.Second {
			t.Errorf("gave up after %s", waited)
		}
	})
}

func TestWALGetPadsAndCuts(t *testing.T) {
	a := newAsked(t, &fake{segments: map[wal.Segment][]byte{seg(2, 7): full('d')}, partials: map[wal.Segment][]byte{}})
	a.cutAt = seg(2, 7).Start(mib) + 1000
	a.want(seg(2, 7).Name(mib), ExitGot)
	got, err := os.ReadFile(a.into)
	check(t, err)
	if want := append(full('d')[:1000], make([]byte, mib-1000)...); !bytes.Equal(got, want) {
		t.Error("what is beyond the end of the route was served")
	}
	b := newAsked(t, &fake{partials: map[wal.Segment][]byte{seg(2, 7): full('d')[:mib/2]}})
	b.want(seg(2, 7).Name(mib), ExitGot)
	got, err = os.ReadFile(b.into)
	check(t, err)
	if want := append(full('d')[:mib/2], make([]byte, mib/2)...); !bytes.Equal(got, want) {
		t.Error("a partial is not padded with zeros")
	}
}

func TestWALGetWithoutARoute(t *testing.T) {
	for name, content := range map[string]string{"missing": "", "empty": "{}", "garbage": "\x00", "newer": `{"version":2}`} {
		path := filepath.Join(t.TempDir(), "route.json")
		if name != "missing" {
			check(t, os.WriteFile(path, []byte(content), 0o600))
		}
		exit, err := WALGet(t.Context(), WALGetOptions{Route: path, Name: "00000002.history", Into: filepath.Join(t.TempDir(), "x")})
		if exit != ExitFailed || err == nil {
			t.Errorf("%s: exit %d, %v", name, exit, err)
		}
	}
}

func TestWALGetSurvivesAPanic(t *testing.T) {
	a := newAsked(t, &fake{down: func() error { panic("boom") }})
	exit, err := func() (exit int, err error) {
		defer caught(&exit, &err, "x")
		return a.get(seg(1, 3).Name(mib))
	}()
	if exit != ExitFailed || err == nil {
		t.Errorf("exit %d, %v", exit, err)
	}
}

func FuzzReadRoute(f *testing.F) {
	f.Add([]byte(`{"version":1,"server":"a","system_id":"1","segment_size":1048576,"timeline":1,"path":[{"timeline":1,"from":"0/1","to":"0/2"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "route.json")
		check(t, os.WriteFile(path, b, 0o600))
		if r, err := readRoute(path); err == nil {
			r.needs(seg(1, 0))
		}
	})
}
