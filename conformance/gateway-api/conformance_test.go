// The Gateway API conformance suite, unmodified, as a test binary; ../gateway builds and runs it.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
