{{/* Names and labels as the ingress-nginx chart gives them, so that an upgrade to this chart keeps the objects. */}}
{{- define "narthex.name" -}}
{{- default "ingress-nginx" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.fullname" -}}
{{- $name := include "narthex.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "narthex.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "narthex.controller" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.controller.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.backend" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.defaultBackend.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.admission" -}}
{{- printf "%s-%s" (include "narthex.fullname" .) .Values.controller.admissionWebhooks.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "narthex.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "narthex.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "narthex.backendServiceAccount" -}}
{{- if .Values.defaultBackend.serviceAccount.create -}}
{{- default (printf "%s-backend" (include "narthex.fullname" .)) .Values.defaultBackend.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.defaultBackend.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "narthex.election" -}}
{{- default (printf "%s-leader" (include "narthex.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{- define "narthex.selector" -}}
app.kubernetes.io/name: {{ include "narthex.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "narthex.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "narthex.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "narthex.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of everything that belongs to the controller, within `labels` of `metadata`; the root as context. */}}
{{- define "narthex.own" }}{{ with .Values.controller.labels }}{{ toYaml . | nindent 4 }}{{ end }}{{ end }}

{{/*
Image of (dict "root" $ "image" map "registry" text): a repository with a tag or a digest in it stands as it is; `registry` is
the one where nothing else names any. A values file of ingress-nginx that names its own image gives this chart's.
*/}}
{{- define "narthex.image" -}}
{{- $image := .image -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{- $digest := $image.digest -}}
{{- $name := $image.repository -}}
{{- if include "narthex.foreignImage" $image -}}
{{- /* Values of ingress-nginx: its image, and the tag and digest of that image. */ -}}
{{- $image = dict "registry" "" "image" "narthex" -}}
{{- $digest = "" -}}
{{- if or (contains "ingress-nginx/controller" (toString $name)) (hasPrefix "v1." (toString $tag)) -}}{{- $tag = .root.Chart.AppVersion -}}{{- end -}}
{{- if contains "ingress-nginx/controller" (toString $name) -}}{{- $name = "" -}}{{- end -}}
{{- end -}}
{{- if not $name -}}
{{- $registry := coalesce $image.registry (ternary "" .root.Values.global.image.registry (eq (toString .root.Values.global.image.registry) "registry.k8s.io")) .registry -}}
{{- $name = ternary (printf "%s/%s" $registry $image.image) $image.image (not (empty $registry)) -}}
{{- end -}}
{{- if or (contains "@" $name) (contains ":" (last (splitList "/" $name))) -}}
{{- $name -}}
{{- else if $digest -}}
{{- printf "%s:%s@%s" $name (toString $tag) $digest -}}
{{- else -}}
{{- printf "%s:%s" $name (toString $tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" for an image map that names ingress-nginx. */}}
{{- define "narthex.foreignImage" -}}
{{- if or (contains "ingress-nginx/controller" (toString .image)) (contains "ingress-nginx/controller" (toString .repository)) -}}true{{- end -}}
{{- end -}}

{{/* Security context of a container: (dict "image" map "given" map "ports" bool). */}}
{{- define "narthex.securityContext" -}}
{{- if .given -}}
{{- toYaml .given -}}
{{- else -}}
runAsNonRoot: {{ .image.runAsNonRoot }}
runAsUser: {{ .image.runAsUser }}
runAsGroup: {{ .image.runAsGroup }}
allowPrivilegeEscalation: {{ .image.allowPrivilegeEscalation }}
{{- with .image.seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
readOnlyRootFilesystem: {{ .image.readOnlyRootFilesystem }}
capabilities:
  drop: [ALL]
  {{- if .ports }}
  add: [NET_BIND_SERVICE]
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Names that values files for the ingress-nginx chart include: in affinity, topologySpreadConstraints, config and others. */}}
{{- define "ingress-nginx.name" -}}{{ include "narthex.name" . }}{{- end -}}
{{- define "ingress-nginx.fullname" -}}{{ include "narthex.fullname" . }}{{- end -}}
{{- define "ingress-nginx.chart" -}}{{ printf "%s-%s" .Chart.Name .Chart.Version }}{{- end -}}
{{- define "ingress-nginx.namespace" -}}{{ include "narthex.namespace" . }}{{- end -}}
{{- define "ingress-nginx.labels" -}}{{ include "narthex.labels" . }}{{- end -}}
{{- define "ingress-nginx.selectorLabels" -}}{{ include "narthex.selector" . }}{{- end -}}
{{- define "ingress-nginx.serviceAccountName" -}}{{ include "narthex.serviceAccount" . }}{{- end -}}
{{- define "ingress-nginx.controller.fullname" -}}{{ include "narthex.controller" . }}{{- end -}}
{{- define "ingress-nginx.controller.electionID" -}}{{ include "narthex.election" . }}{{- end -}}
{{- define "ingress-nginx.admissionWebhooks.fullname" -}}{{ include "narthex.admission" . }}{{- end -}}
{{- define "ingress-nginx.defaultBackend.fullname" -}}{{ include "narthex.backend" . }}{{- end -}}
{{- define "ingress-nginx.defaultBackend.serviceAccountName" -}}{{ include "narthex.backendServiceAccount" . }}{{- end -}}
