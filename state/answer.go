package state

// Answer is what a recovered copy said to a declared check.
type Answer struct {
	Name     string `json:"name"`
	Database string `json:"database"`
	Expect   string `json:"expect"`
	Got      string `json:"got"` // cut at a thousand bytes
	Error    string `json:"error,omitempty"`
	Passed   bool   `json:"passed"`
}
