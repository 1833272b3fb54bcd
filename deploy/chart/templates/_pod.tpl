{{/* The Service whose address the status tells; empty where there is none. */}}
{{- define "narthex.published" -}}
{{- $controller := .Values.controller -}}
{{- $service := $controller.service -}}
{{- if and $controller.publishService.enabled $service.enabled (or $service.external.enabled $service.internal.enabled) -}}
{{- $name := include "narthex.controller" . -}}
{{- if not $service.external.enabled }}{{ $name = printf "%s-internal" $name }}{{ end -}}
{{- default (printf "$(POD_NAMESPACE)/%s" $name) $controller.publishService.pathOverride -}}
{{- end -}}
{{- end -}}

{{/* A probe of (dict "controller" map "probe" map): asked at the port where the process answers, unless it names another. */}}
{{- define "narthex.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- $port := int .controller.metrics.port -}}
{{- with $probe.httpGet -}}
{{- if and (eq (toString .port) "10254") (ne $port 10254) (not (hasKey $.controller.extraArgs "healthz-port")) -}}
{{- $_ := set . "port" $port -}}
{{- end -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/* The command line: the program under the name that the image of ingress-nginx gives it, then the flags. */}}
{{- define "narthex.args" -}}
{{- $controller := .Values.controller -}}
{{- $namespace := "$(POD_NAMESPACE)" -}}
- /nginx-ingress-controller
{{- if .Values.defaultBackend.enabled }}
- --default-backend-service={{ $namespace }}/{{ include "narthex.backend" . }}
{{- end }}
{{- with include "narthex.published" . }}
- --publish-service={{ . }}
{{- end }}
- --election-id={{ include "narthex.election" . }}
- --controller-class={{ $controller.ingressClassResource.controllerValue }}
{{- with $controller.ingressClass }}
- --ingress-class={{ . }}
{{- end }}
- --configmap={{ default $namespace $controller.configMapNamespace }}/{{ include "narthex.controller" . }}
{{- if .Values.tcp }}
- --tcp-services-configmap={{ default $namespace $controller.tcp.configMapNamespace }}/{{ include "narthex.fullname" . }}-tcp
{{- end }}
{{- if .Values.udp }}
- --udp-services-configmap={{ default $namespace $controller.udp.configMapNamespace }}/{{ include "narthex.fullname" . }}-udp
{{- end }}
{{- if $controller.scope.enabled }}
- --watch-namespace={{ default $namespace $controller.scope.namespace }}
{{- else if $controller.scope.namespaceSelector }}
- --watch-namespace-selector={{ $controller.scope.namespaceSelector }}
{{- end }}
{{- if and $controller.reportNodeInternalIp (or $controller.hostNetwork (not $controller.publishService.enabled)) }}
- --report-node-internal-ip-address=true
{{- end }}
{{- if $controller.admissionWebhooks.enabled }}
- --validating-webhook=:{{ $controller.admissionWebhooks.port }}
{{- if $controller.admissionWebhooks.certManager.enabled }}
- --validating-webhook-certificate={{ $controller.admissionWebhooks.certificate }}
- --validating-webhook-key={{ $controller.admissionWebhooks.key }}
{{- else }}
- --validating-webhook-configuration={{ include "narthex.admission" . }}
- --validating-webhook-secret={{ $namespace }}/{{ include "narthex.admission" . }}
{{- end }}
{{- end }}
{{- with $controller.healthCheckHost }}
- --healthz-host={{ . }}
{{- end }}
{{- if ne $controller.healthCheckPath "/healthz" }}
- --health-check-path={{ $controller.healthCheckPath }}
{{- end }}
{{- if and (ne (int $controller.metrics.port) 10254) (not (hasKey $controller.extraArgs "healthz-port")) }}
- --healthz-port={{ $controller.metrics.port }}
{{- end }}
{{- if not (eq (int $controller.containerPort.http) 80) }}
- --http-port={{ $controller.containerPort.http }}
{{- end }}
{{- if not (eq (int $controller.containerPort.https) 443) }}
- --https-port={{ $controller.containerPort.https }}
{{- end }}
{{- if not $controller.enableAnnotationValidations }}
- --enable-annotation-validation=false
{{- end }}
{{- if $controller.watchIngressWithoutClass }}
- --watch-ingress-without-class=true
{{- end }}
{{- if $controller.ingressClassByName }}
- --ingress-class-by-name=true
{{- end }}
{{- with $controller.secretNamespaces }}
- --secret-namespaces={{ join "," . }}
{{- end }}
{{- if $controller.secretsByReference }}
- --secrets-by-reference=true
{{- end }}
{{- if $controller.coexist }}
- --coexist=true
{{- end }}
{{- if $controller.enableTopologyAwareRouting }}
- --enable-topology-aware-routing=true
{{- end }}
{{- if $controller.disableLeaderElection }}
- --disable-leader-election=true
{{- end }}
{{- with $controller.electionTTL }}
- --election-ttl={{ . }}
{{- end }}
{{- if $controller.metrics.enabled }}
- --enable-metrics=true
{{- end }}
{{- range $name, $value := $controller.extraArgs }}
{{- if eq (toString $value) "" }}
- --{{ $name }}
{{- else }}
- --{{ $name }}={{ $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fields that Deployment and DaemonSet share: the Pod template. */}}
{{- define "narthex.pod" -}}
{{- $controller := .Values.controller -}}
metadata:
  labels:
    {{- include "narthex.labels" . | nindent 4 }}
    app.kubernetes.io/component: controller
    {{- with $controller.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $controller.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $controller.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "narthex.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  terminationGracePeriodSeconds: {{ $controller.terminationGracePeriodSeconds }}
  dnsPolicy: {{ $controller.dnsPolicy }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.hostAliases }}
  hostAliases:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  {{- with $controller.hostname }}
  hostname: {{ toYaml . | trim }}
  {{- end }}
  {{- with $controller.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- if $controller.shareProcessNamespace }}
  shareProcessNamespace: true
  {{- end }}
  {{- if or $controller.podSecurityContext $controller.sysctls }}
  securityContext:
    {{- with $controller.podSecurityContext }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $controller.sysctls }}
    sysctls:
      {{- range $name, $value := . }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with $controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.affinity }}
  affinity:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if $controller.topologySpreadConstraints }}
    {{- tpl (toYaml $controller.topologySpreadConstraints) . | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "narthex.selector" . | nindent 10 }}
          app.kubernetes.io/component: controller
    {{- end }}
  {{- with $controller.extraInitContainers }}
  initContainers:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $controller.containerName }}
      image: {{ include "narthex.image" (dict "root" . "image" $controller.image) }}
      imagePullPolicy: {{ $controller.image.pullPolicy }}
      {{- with $controller.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      args:
        {{- include "narthex.args" . | nindent 8 }}
      securityContext:
        {{- include "narthex.securityContext" (dict "image" $controller.image "given" $controller.containerSecurityContext "ports" true) | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- with $controller.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- range $name := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with get $controller $name }}
      {{ $name }}:
        {{- include "narthex.probe" (dict "controller" $controller "probe" .) | nindent 8 }}
      {{- end }}
      {{- end }}
      ports:
        {{- range $name, $port := $controller.containerPort }}
        - name: {{ $name }}
          containerPort: {{ $port }}
          protocol: TCP
          {{- if $controller.hostPort.enabled }}
          hostPort: {{ default $port (get $controller.hostPort.ports $name) }}
          {{- end }}
        {{- end }}
        {{- if $controller.metrics.enabled }}
        - name: {{ $controller.metrics.portName }}
          containerPort: {{ $controller.metrics.port }}
          protocol: TCP
        {{- end }}
        {{- if $controller.admissionWebhooks.enabled }}
        - name: webhook
          containerPort: {{ $controller.admissionWebhooks.port }}
          protocol: TCP
        {{- end }}
        {{- range $port, $_ := .Values.tcp }}
        - name: {{ if $.Values.portNamePrefix }}{{ $.Values.portNamePrefix }}-{{ end }}{{ $port }}-tcp
          containerPort: {{ $port }}
          protocol: TCP
          {{- if $controller.hostPort.enabled }}
          hostPort: {{ $port }}
          {{- end }}
        {{- end }}
        {{- range $port, $_ := .Values.udp }}
        - name: {{ if $.Values.portNamePrefix }}{{ $.Values.portNamePrefix }}-{{ end }}{{ $port }}-udp
          containerPort: {{ $port }}
          protocol: UDP
          {{- if $controller.hostPort.enabled }}
          hostPort: {{ $port }}
          {{- end }}
        {{- end }}
      resources:
        {{- toYaml $controller.resources | nindent 8 }}
      {{- with $controller.resizePolicy }}
      resizePolicy:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if and $controller.admissionWebhooks.enabled $controller.admissionWebhooks.certManager.enabled }}
        - name: webhook-cert
          mountPath: {{ dir $controller.admissionWebhooks.certificate }}
          readOnly: true
        {{- end }}
        {{- with $controller.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $controller.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if and $controller.admissionWebhooks.enabled $controller.admissionWebhooks.certManager.enabled }}
    - name: webhook-cert
      secret:
        secretName: {{ include "narthex.admission" . }}
        items:
          - key: tls.crt
            path: {{ base $controller.admissionWebhooks.certificate }}
          - key: tls.key
            path: {{ base $controller.admissionWebhooks.key }}
    {{- end }}
    {{- with $controller.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
