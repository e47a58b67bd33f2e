package hclspec

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// nearest gives the candidate that the name was probably meant to be; empty: none is near.
func nearest(name string, candidates []string) string {
	if len(name) > 80 {
		return ""
	}
	best, bestDistance := "", 1+max(1, min(3, len(name)/3))
	sorted := slices.Sorted(slices.Values(candidates))
	for _, c := range sorted {
		if strings.EqualFold(strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(c, "-", "_")) {
			return c
		}
		if abs(len(c)-len(name)) >= bestDistance {
			continue
		}
		d := levenshtein.Distance(name, c, nil)
		if swapped(name, c) {
			d = 1
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// swapped says whether two neighbours changed places: "mian" for "main".
func swapped(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) - 1 {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// Nearest gives the candidate that a name which is none of them was probably meant to be; empty: none is near.
func Nearest(name string, candidates []string) string { return nearest(name, candidates) }
