package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// Effort is what a recovery has to do. The zero value is nothing.
type Effort struct {
	DataBytes int64 // restored into the data directory and the tablespaces
	CopiedWAL int64 // bytes of WAL copied beside the data directory beforehand
	ReplayWAL int64 // bytes of WAL replayed
}

// Estimate is how long a recovery takes, by what earlier ones took, with its arithmetic.
type Estimate struct {
	Seconds float64        `json:"seconds"` // the sum of Parts
	Parts   []EstimatePart `json:"parts,omitempty"`
	// Unmeasured says what was never measured, and is not in Seconds; empty: the estimate is whole.
	Unmeasured []string `json:"unmeasured,omitempty"`
}

// EstimatePart is one summand: Bytes at the rate of one measurement.
type EstimatePart struct {
	What    string     `json:"what"` // restore | copy WAL | replay | start
	Bytes   int64      `json:"bytes,omitempty"`
	Seconds float64    `json:"seconds"`
	By      state.Work `json:"by"` // what was measured
	At      time.Time  `json:"at"` // when
	Of      string     `json:"of"` // "recovery", "drill"
}

// Known tells whether nothing is missing in it.
func (e Estimate) Known() bool { return len(e.Unmeasured) == 0 }

// Duration gives the sum of what was measured.
func (e Estimate) Duration() time.Duration { return time.Duration(e.Seconds * float64(time.Second)) }

// EstimateRecovery computes how long an effort takes by what was measured, newest first (Cluster.Measured). Each part goes
// by the newest measurement that is not tiny beside the others: what took a second says nothing of what takes an hour.
func EstimateRecovery(measured []state.Measured, effort Effort) Estimate {
	var e Estimate
	e.add("restore", effort.DataBytes, measured, func(m *state.Measured) state.Work { return m.Restore })
	e.add("copy WAL", effort.CopiedWAL, measured, func(m *state.Measured) state.Work { return m.CopyWAL })
	if m, ok := measuredBest(measured, func(m *state.Measured) state.Work { return m.Start }); ok {
		e.Parts = append(e.Parts, EstimatePart{What: "start", Seconds: m.Start.Seconds, By: m.Start, At: m.At, Of: m.What})
	}
	e.add("replay", effort.ReplayWAL, measured, func(m *state.Measured) state.Work { return m.Replay })
	for _, p := range e.Parts {
		e.Seconds += p.Seconds
	}
	return e
}

func (e *Estimate) add(what string, bytes int64, measured []state.Measured, of func(*state.Measured) state.Work) {
	if bytes <= 0 {
		return
	}
	m, ok := measuredBest(measured, of)
	w := of(&m)
	if !ok || w.PerSecond() == 0 {
		e.Unmeasured = append(e.Unmeasured, what)
		return
	}
	e.Parts = append(e.Parts, EstimatePart{What: what, Bytes: bytes, Seconds: float64(bytes) / w.PerSecond(), By: w, At: m.At, Of: m.What})
}

// measuredBest gives the newest measurement of a part that is at least a tenth of the largest.
func measuredBest(measured []state.Measured, of func(*state.Measured) state.Work) (state.Measured, bool) {
	var largest int64
	for i := range measured {
		largest = max(largest, of(&measured[i]).Bytes)
	}
	for i := range measured {
		if w := of(&measured[i]); w.Seconds > 0 && w.Bytes >= largest/10 {
			return measured[i], true
		}
	}
	return state.Measured{}, false
}

// Sentence shows the arithmetic: "41 min = 22 min to restore 24.0 GiB at 18.6 MiB/s + 19 min to replay 4.0 GiB at
// 3.6 MiB/s; measured by …".
func (e Estimate) Sentence() string {
	var parts, by []string
	for _, p := range e.Parts {
		text := spanOf(p.Seconds) + " to " + p.What
		if p.Bytes > 0 {
			text += fmt.Sprintf(" %s at %s/s", Size(p.Bytes), Size(int64(p.By.PerSecond())))
			by = append(by, fmt.Sprintf("%s: %s in %s by the %s of %s", p.What, Size(p.By.Bytes), spanOf(p.By.Seconds), p.Of, Moment(p.At)))
		} else {
			text = spanOf(p.Seconds) + " to " + p.What + " the server"
		}
		parts = append(parts, text)
	}
	unmeasured := ""
	if !e.Known() {
		unmeasured = "how long it takes to " + strings.Join(e.Unmeasured, " and to ") + " was never measured here: a recovery with --start, or a drill, measures it"
	}
	if len(parts) == 0 {
		return unmeasured
	}
	text := spanOf(e.Seconds) + " = " + strings.Join(parts, " + ")
	if unmeasured != "" {
		text = "at least " + text + "; " + unmeasured
	}
	if len(by) > 0 {
		text += " (measured: " + strings.Join(by, "; ") + ")"
	}
	return text
}

// spanOf writes seconds; what is under ten of them with a decimal.
func spanOf(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return Span(time.Duration(seconds * float64(time.Second)))
}
